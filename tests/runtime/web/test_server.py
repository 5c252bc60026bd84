"""The server as something on a network: what it answers, what it refuses, what a request may cost, and how it ends."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from qtseg_edge.runtime.frames import SourceStatus
from qtseg_edge.runtime.web import app, protocol, viewer
from tests.runtime.web.site import PATIENCE, TOKEN, Site, ask, use_token

PATHS = (
    "/",
    "/login",
    "/static/app.js",
    "/static/nothing.js",
    "/streams",
    "/streams/0/events/1.jpg",
    "/healthz",
    "/readyz",
    "/metrics",
    "/x",
)


def raw(site: Site, request: bytes, *, wait: bool = True) -> bytes:
    """What the server answers until it closes the connection, or, without `wait`, at first."""
    with socket.create_connection(("127.0.0.1", site.server.address.port), PATIENCE) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
            if not wait:
                break
        return answer


@pytest.fixture
def fast_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_REQUEST_SECONDS", 0.4)
    monkeypatch.setattr(protocol, "_ANSWER_SECONDS", 0.6)


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_carries_the_security_headers(still: Site, path: str) -> None:
    headers = still.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "camera=()" in headers["Permissions-Policy"]
    assert "Server" not in headers


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(still: Site) -> None:
    for path in (
        "/",
        "/static/login.html",
        "/static/app.js",
        "/static/stage.js",
        "/static/link.js",
        "/static/style.css",
        "/static/icon.svg",
    ):
        text = still.get(path).text.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text.replace('"https:"', "") and "@import" not in text and "url(" not in text
        assert " style=" not in text and " onclick=" not in text
    assert still.get("/").text.count("<script") == 1


def test_a_name_that_was_made_to_point_here_is_refused(still: Site) -> None:
    assert still.get("/streams", Host="evil.example").status == 421
    assert still.get("/streams", Host=f"localhost:{still.server.address.port}").status == 200
    assert raw(still, b"GET /streams HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 421")
    with pytest.raises(InvalidStatus) as refused:
        still.watch(additional_headers={"Host": "evil.example"})
    assert refused.value.response.status_code in (400, 421)  # two Host headers, or one that is foreign


def test_with_a_token_the_server_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    use_token(monkeypatch)
    with Site() as site:
        assert site.get("/streams", Host="theatre-3.example", Authorization=f"Bearer {TOKEN}").status == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "http://[::1"])
def test_another_sites_page_gets_no_pictures(still: Site, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        still.watch(origin=origin)
    assert refused.value.response.status_code == 403
    assert still.get("/login", method="POST", body=b"token=x", Origin=origin).status == 403


def test_its_own_page_gets_pictures(still: Site) -> None:
    with still.watch(origin=still.url) as watching:
        assert ask(watching).header["reason"] == "no picture yet"


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n", b"413"),
        (b"GET /" + b"x" * 300 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\nConnection: close\r\n\r\n", b"431"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
    ],
)
def test_what_is_too_large_or_no_http_is_refused(still: Site, request_head: bytes, status: bytes) -> None:
    assert raw(still, request_head).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("path", ["/streams/7/live", "/streams/-1/live", "/streams/99999999999999999999/live", "/streams/x/live"])
def test_a_stream_that_is_none_is_told(still: Site, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        still.watch(path.split("/")[2])  # type: ignore[arg-type]
    assert refused.value.response.status_code == 404


@pytest.mark.parametrize("path", ["/static/..%2f..%2fserver.py", "/static/../server.py", "/static/server.py", "/streams/0/events/x.jpg"])
def test_nothing_but_the_page_is_served(still: Site, path: str) -> None:
    assert still.get(path).status == 404


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH", "POST"])
def test_nothing_can_be_changed(still: Site, method: str) -> None:
    for path in ("/", "/streams", "/metrics", "/healthz"):
        assert still.get(path, method=method).status == 405


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost: local", b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\ntok"]
)
@pytest.mark.usefixtures("fast_limits")
def test_a_client_that_is_slow_on_purpose_is_cut_off(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_BODY_SECONDS", 0.3)
    with Site() as site:
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", site.server.address.port), PATIENCE) as connection:
            connection.sendall(sent)
            try:
                while connection.recv(4096):
                    pass
            except ConnectionResetError:
                pass
        assert time.monotonic() - started < 5


@pytest.mark.usefixtures("fast_limits")
def test_a_client_that_drips_bytes_is_cut_off_all_the_same() -> None:
    with Site() as site, socket.create_connection(("127.0.0.1", site.server.address.port), PATIENCE) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - started < PATIENCE:
                connection.sendall(b"X")
                time.sleep(0.05)


def test_the_number_of_connections_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 5)
    with Site() as site:
        held = [socket.create_connection(("127.0.0.1", site.server.address.port), PATIENCE) for _ in range(5)]
        try:
            time.sleep(0.2)  # the server counts those it has accepted
            with socket.create_connection(("127.0.0.1", site.server.address.port), PATIENCE) as one_more:
                one_more.settimeout(PATIENCE)
                with pytest.raises(OSError):
                    one_more.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    if not one_more.recv(64):
                        raise ConnectionResetError
        finally:
            for connection in held:
                connection.close()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if site.get("/healthz").status == 200:
                    return
            except OSError:
                time.sleep(0.05)
        pytest.fail("the places were not given back")


def test_the_number_of_viewers_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MAX_VIEWERS", 2)
    with site.watch() as first, site.watch() as second:
        ask(first), ask(second)
        with pytest.raises(InvalidStatus) as refused:
            site.watch()
        assert refused.value.response.status_code == 503
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with site.watch() as third:
                assert not ask(third).header["signal"]
                return
        except InvalidStatus:
            assert time.monotonic() < deadline, "a place that was left is not given again"
            time.sleep(0.05)


@pytest.mark.parametrize("wish", ["x" * 1000, "other", b"picture", b"\x00" * 10_000])
def test_a_viewer_may_only_ask_for_what_there_is(still: Site, wish: str | bytes) -> None:
    with still.watch() as watching:
        watching.send(wish)
        with pytest.raises(ConnectionClosed):
            watching.recv(timeout=PATIENCE)


def test_a_viewer_that_asks_for_nothing_gives_its_place_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "_SILENT_SECONDS", 0.2)
    with site.watch() as watching, pytest.raises(ConnectionClosed):
        watching.recv(timeout=PATIENCE)


def test_health_is_that_the_process_runs(still: Site) -> None:
    answer = still.get("/healthz")
    assert (answer.status, answer.text) == (200, "alive\n")


def test_ready_is_a_young_mask_of_every_stream() -> None:
    with Site(streams=2) as site:

        def ready() -> tuple[int, list[str]]:
            answer = site.get("/readyz")
            told = json.loads(answer.text)
            assert told["ready"] is (answer.status == 200)
            return answer.status, told["reasons"]

        first, second = "rtsp://***@tower-1/live", "rtsp://***@tower-2/live"
        assert ready() == (503, [f"{first}: no frame has been segmented yet", f"{second}: no frame has been segmented yet"])
        site.push(0)
        assert ready() == (503, [f"{second}: no frame has been segmented yet"])
        site.push(1)
        assert ready() == (200, [])
        site.push(1, age_s=9.5)
        status, reasons = ready()
        assert (
            status == 503 and reasons[0].startswith(f"{second}: its newest mask is 9.") and reasons[0].endswith("s old, the limit is 2 s")
        )
        site.push(1)
        site.channels[0].status = SourceStatus(False, 3, 0, "cable pulled")
        assert ready() == (503, [f"{first}: down (cable pulled)"])


def test_before_any_stream_is_opened_it_is_not_ready() -> None:
    with Site(streams=0) as site:
        answer = site.get("/readyz")
        assert answer.status == 503 and json.loads(answer.text)["reasons"] == ["no stream has been opened yet"]
        assert json.loads(site.get("/streams").text)["streams"] == []


def test_it_ends_within_a_second_whatever_the_viewers_do(no_thread_is_left: None) -> None:
    before = set(threading.enumerate())
    with Site().start() as site, site.watch() as active, site.watch(max_queue=1) as greedy, site.watch():
        ask(active)
        for _ in range(60):
            greedy.send("picture")  # and takes nothing
        with socket.create_connection(("127.0.0.1", site.server.address.port), PATIENCE):
            started = time.monotonic()
            site.server.__exit__(None, None, None)
            assert time.monotonic() - started < 1.5  # a second, and a busy machine
            assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "web server"]


def test_the_port_is_free_at_once_for_the_next_run() -> None:
    with Site().start() as site:
        port = site.server.address.port
        with site.watch() as watching:
            ask(watching)
    with Site(port=port) as again:
        assert again.get("/healthz").status == 200


def test_requests_are_not_logged(still: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        still.get("/streams?password=secret")
        with still.watch() as watching:
            ask(watching)
    assert "secret" not in caplog.text and "GET" not in caplog.text and "WebSocket" not in caplog.text
