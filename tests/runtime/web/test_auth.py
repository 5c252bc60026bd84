"""The token: who is let in, who is not, and what guessing costs."""

from __future__ import annotations

import hmac
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.exceptions import InvalidStatus

from qtseg_edge.runtime.web import auth
from qtseg_edge.runtime.web.auth import Access, TooManyFailures
from tests.runtime.web.site import TOKEN, Answer, Site, ask, use_token

WRONG = "x" * len(TOKEN)


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Any:
    use_token(monkeypatch)
    with Site() as site:
        yield site


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """What the constant-time comparison was given."""
    pairs: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def noted(a: Any, b: Any) -> bool:
        pairs.append((a, b))
        return real(a, b)

    monkeypatch.setattr(auth.hmac, "compare_digest", noted)
    return pairs


def log_in(site: Site, token: str, **headers: str) -> Answer:
    return site.get("/login", method="POST", body=urlencode({"token": token}).encode(), **headers)


def cookie_of(answer: Answer) -> str:
    return str(answer.headers["Set-Cookie"]).partition(";")[0]


def test_the_page_asks_for_the_token(guarded: Site) -> None:
    answer = guarded.get("/")
    assert (answer.status, answer.headers["Location"]) == (303, "/login")
    page = guarded.get("/login")
    assert page.status == 200 and 'type="password"' in page.text


def test_the_right_token_gives_a_session(guarded: Site) -> None:
    answer = log_in(guarded, TOKEN)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = str(answer.headers["Set-Cookie"])
    flags = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= flags
    assert TOKEN not in cookie
    assert guarded.get("/", Cookie=cookie_of(answer)).status == 200


def test_a_wrong_token_is_refused_in_constant_time(guarded: Site, compared: list[tuple[bytes, bytes]]) -> None:
    answer = log_in(guarded, WRONG)
    assert answer.status == 401 and "That is not the token" in answer.text and "Set-Cookie" not in answer.headers
    assert guarded.get("/metrics", Authorization=f"Bearer {WRONG}").status == 401
    assert guarded.get("/metrics", Authorization="Bearer x").status == 401
    tokens = [pair for pair in compared if len(pair[0]) == 32]
    assert len(tokens) == 3 and {len(side) for pair in tokens for side in pair} == {32}  # digests: the length of the token does not show


@pytest.mark.parametrize("path", ["/streams", "/metrics", "/readyz", "/streams/0/events/1.jpg", "/nothing-here"])
def test_nothing_is_told_without_the_token(guarded: Site, path: str) -> None:
    answer = guarded.get(path)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert guarded.get(path, Authorization=f"Bearer {TOKEN}").status != 401


def test_the_pictures_need_the_token(guarded: Site) -> None:
    for headers in ({}, {"Authorization": f"Bearer {WRONG}"}, {"Cookie": f"qtseg_edge_{guarded.server.address.port}=1.2"}):
        with pytest.raises(InvalidStatus) as refused:
            guarded.watch(additional_headers=headers)
        assert refused.value.response.status_code == 401
    with guarded.watch(additional_headers={"Authorization": f"Bearer {TOKEN}"}) as viewer:
        assert not ask(viewer).header["signal"]
    with guarded.watch(additional_headers={"Cookie": cookie_of(log_in(guarded, TOKEN))}) as viewer:
        assert not ask(viewer).header["signal"]


def test_what_a_watchdog_and_the_login_page_need_is_open(guarded: Site) -> None:
    assert guarded.get("/healthz").status == 200
    assert guarded.get("/static/style.css").status == 200


@pytest.mark.parametrize(
    "change", [lambda cookie: cookie[:-1] + "x", lambda cookie: cookie.replace("=", "=9"), lambda _: "qtseg=", lambda c: c + "é"]
)
def test_a_session_that_was_changed_is_none(guarded: Site, change: Any) -> None:
    cookie = cookie_of(log_in(guarded, TOKEN))
    assert guarded.get("/streams", Cookie=cookie).status == 200
    assert guarded.get("/streams", Cookie=change(cookie).encode().decode("latin-1")).status == 401


def test_a_session_ends_after_a_day_and_with_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access(TOKEN)
    session = access.new_session()
    assert access.admits_session(session)
    assert Access(TOKEN).admits_session(session)  # a restart of the server ends nobody's
    assert not Access(TOKEN + "!").admits_session(session)
    later = time.time() + auth.SESSION_SECONDS + 1
    monkeypatch.setattr(auth.time, "time", lambda: later)
    assert not access.admits_session(session)


@pytest.mark.parametrize("value", ["", ".", "x.y", "1.", "é.é", "9" * 5000 + ".0"])
def test_what_is_no_session_lets_nobody_in(value: str) -> None:
    assert not Access(TOKEN).admits_session(value)


def test_guessing_is_stopped_also_for_the_right_token(guarded: Site) -> None:
    session = cookie_of(log_in(guarded, TOKEN))
    for _ in range(5):
        assert log_in(guarded, WRONG).status == 401
    answer = log_in(guarded, TOKEN)
    assert answer.status == 429 and 0 < int(answer.headers["Retry-After"]) <= 60
    assert guarded.get("/metrics", Authorization=f"Bearer {TOKEN}").status == 429
    assert guarded.get("/streams", Cookie=session).status == 200  # who is in, stays in


def test_a_client_that_waited_may_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    access, now = Access(TOKEN), [100.0]
    monkeypatch.setattr(auth.time, "monotonic", lambda: now[0])
    for _ in range(5):
        assert not access.admits_token(WRONG, "192.0.2.1")
        now[0] += 1
    with pytest.raises(TooManyFailures):
        access.admits_token(TOKEN, "192.0.2.1")
    assert access.admits_token(TOKEN, "192.0.2.2")
    now[0] += 56  # the first one was a minute ago
    assert access.admits_token(TOKEN, "192.0.2.1")


def test_clients_of_ipv4_are_told_apart_where_a_socket_takes_both() -> None:
    """web://[::]:8080. Else five wrong tokens from anywhere would lock everybody out."""
    access = Access(TOKEN)
    for _ in range(5):
        assert not access.admits_token(WRONG, "::ffff:10.0.0.7")
    with pytest.raises(TooManyFailures):
        access.admits_token(TOKEN, "10.0.0.7")
    assert access.admits_token(TOKEN, "::ffff:10.0.0.8")


def test_a_network_of_ipv6_is_one_client() -> None:
    access = Access(TOKEN)
    for number in range(5):
        assert not access.admits_token(WRONG, f"2001:db8::{number}")
    with pytest.raises(TooManyFailures):
        access.admits_token(WRONG, "2001:db8::ffff")
    assert not access.admits_token(WRONG, "2001:db8:1::1")


def test_many_clients_take_no_memory() -> None:
    access = Access(TOKEN)
    for number in range(2000):
        access.admits_token(WRONG, f"client {number}")
    assert len(access._failures) == 256


def test_a_token_is_in_no_log(guarded: Site, caplog: pytest.LogCaptureFixture) -> None:
    guarded.get("/metrics", Authorization=f"Bearer {TOKEN}secret")
    log_in(guarded, f"{TOKEN}secret")
    log_in(guarded, TOKEN)
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert text.count("web: a wrong token from 127.0.0.1") == 2
    assert TOKEN not in text
