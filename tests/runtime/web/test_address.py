"""Where the page may be served, and what is refused before anything listens."""

from __future__ import annotations

import socket

import pytest

from qtseg_edge.errors import MissingError, QtsegError, UsageError
from qtseg_edge.runtime import web
from qtseg_edge.runtime.monitor import Monitor
from qtseg_edge.runtime.sinks import open_sink, open_sinks
from qtseg_edge.runtime.web.address import is_local_name, listening, parse_address, token_from_environment
from tests.runtime.stand_ins import info
from tests.runtime.web.site import TOKEN, Site, use_token


@pytest.mark.parametrize(
    ("text", "shown"),
    [("web://127.0.0.1:8080", "127.0.0.1:8080"), ("web://localhost:0/", "localhost:0"), ("web://[::1]:80", "[::1]:80")],
)
def test_an_address_is_a_host_and_a_port(text: str, shown: str) -> None:
    assert str(parse_address(text)) == shown


@pytest.mark.parametrize(
    "text", ["web://", "web://127.0.0.1", "web://:8080", "web://h:99999", "web://h:1/page", "web://h:1?a=b", "web://[::1:80", "web://h:x"]
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"wanted web://HOST:PORT, as in web://127\.0\.0\.1:8080"):
        parse_address(text)


def test_a_token_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match=r"the token comes from QTSEG_EDGE_WEB_TOKEN") as refused:
        parse_address(f"web://:{TOKEN}@127.0.0.1:8080")
    assert TOKEN not in str(refused.value)
    with pytest.raises(UsageError, match=r"the token comes from QTSEG_EDGE_WEB_TOKEN") as refused:
        parse_address(f"web://127.0.0.1:8080/?token={TOKEN}")
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("token", ["", "short", "fifteen-letters", "a token with spaces in it", "größer-als-sechzehn-zeichen", "x" * 513])
def test_a_token_that_is_no_token_is_refused_with_how_to_make_one(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    use_token(monkeypatch, token)
    with pytest.raises(UsageError, match=r"QTSEG_EDGE_WEB_TOKEN: wanted 16 to 512 printable .*secrets\.token_urlsafe\(32\)") as refused:
        token_from_environment()
    assert len(token) < 6 or token not in str(refused.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_what_others_could_reach_is_refused_without_a_token(host: str) -> None:
    server = web.web_server([f"web://[{host}]:0" if ":" in host else f"web://{host}:0"], Monitor("fake", "fake"))
    assert server is not None
    with pytest.raises(UsageError, match=r"needs a token; export QTSEG_EDGE_WEB_TOKEN=.* \(or use web://127\.0\.0\.1:0\)"):
        server.__enter__()


def test_with_a_token_every_address_of_the_machine_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    use_token(monkeypatch)
    with Site(host="0.0.0.0") as site:
        port = site.server.address.port
        with socket.create_connection(("127.0.0.1", port), 10):
            pass


def test_the_port_that_was_chosen_is_told(site: Site) -> None:
    assert site.server.address.port > 0
    assert site.channels[0].view.name == f"web://127.0.0.1:{site.server.address.port}"
    assert site.get("/healthz").status == 200


def test_a_port_that_is_taken_is_told_with_the_cure(site: Site) -> None:
    second = web.web_server([f"web://{site.server.address}"], Monitor("fake", "fake"))
    assert second is not None
    with pytest.raises(QtsegError, match=r"cannot listen there \(Address already in use\); give another port, or see who has it: ss -ltnp"):
        second.__enter__()


def test_a_host_that_does_not_exist_is_told() -> None:
    with pytest.raises(UsageError, match=r"web://no\.such\.host\.invalid:0: no such host; wanted 127\.0\.0\.1"):
        listening(parse_address("web://no.such.host.invalid:0"), has_token=True)


def test_one_address_serves_a_run() -> None:
    monitor = Monitor("fake", "fake")
    assert web.web_server(["out.mp4", "null://"], monitor) is None
    with pytest.raises(UsageError, match=r"one web:// address shows every stream to any number of viewers, here are 2; leave one"):
        web.web_server(["web://127.0.0.1:1", "out.mp4", "web://127.0.0.1:2"], monitor)


def test_what_is_not_installed_is_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_PACKAGES", ("starlette", "no_such_package_here"))
    with pytest.raises(MissingError, match=r"pip install 'qtseg-edge\[web\]'"):
        web.web_server(["web://127.0.0.1:0"], Monitor("fake", "fake"))


def test_the_run_opens_its_view_among_the_other_outputs(site: Site) -> None:
    view = site.channels[0].view
    sinks = open_sinks(
        ["null://", "web://127.0.0.1:0"], info(), lambda opened: view if opened.name == "clip.mp4" else open_sink("", opened)
    )
    assert [sink.name for sink in sinks] == ["null://", view.name]


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost", True),
        ("localhost:8080", True),
        ("LOCALHOST:9", True),
        ("127.0.0.1:8080", True),
        ("[::1]:8080", True),
        ("localhost.:80", True),
        ("localhost.evil.example", False),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example@127.0.0.2", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_local_names(host: str, is_local: bool) -> None:
    assert is_local_name(host) is is_local
