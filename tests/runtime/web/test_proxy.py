"""Behind a reverse proxy, and with the token in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from qtseg_edge.errors import UsageError
from qtseg_edge.runtime.web.address import PROXIES_VARIABLE, TOKEN_FILE_VARIABLE, proxies_from_environment, token_from_environment
from tests.runtime.web.site import TOKEN, Site, use_token

FORM = f"token={TOKEN}".encode()


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own address is the proxy's."""
    use_token(monkeypatch)
    monkeypatch.setenv(PROXIES_VARIABLE, "127.0.0.0/8")


def test_the_cookie_is_for_https_where_the_proxy_says_that_it_was(behind: None) -> None:
    with Site() as site:
        over_tls = site.get("/login", method="POST", body=FORM, X_Forwarded_Proto="https")
        plain = site.get("/login", method="POST", body=FORM)
        assert (over_tls.status, plain.status) == (303, 303)
        assert "; Secure" in over_tls.headers["Set-Cookie"] and "Secure" not in plain.headers["Set-Cookie"]


def test_wrong_tokens_are_counted_for_the_client_and_not_for_the_proxy(behind: None) -> None:
    with Site() as site:

        def login(client: str, token: str = "wrong") -> int:
            return site.get("/login", method="POST", body=f"token={token}".encode(), X_Forwarded_For=client).status

        assert [login("192.0.2.1") for _ in range(6)] == [401] * 5 + [429]
        assert login("192.0.2.2", TOKEN) == 303
        assert login("192.0.2.1, 192.0.2.3", TOKEN) == 303  # what a client writes itself stands before what the proxy adds
        assert login("192.0.2.2, 192.0.2.1", TOKEN) == 429


def test_anybody_else_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    use_token(monkeypatch)
    monkeypatch.setenv(PROXIES_VARIABLE, "192.0.2.9,2001:db8::/32")
    with Site() as site:
        answers = [site.get("/login", method="POST", body=b"token=wrong", X_Forwarded_For=f"198.51.100.{n}").status for n in range(6)]
        assert answers == [401] * 5 + [429]
    with Site() as site:
        assert "Secure" not in site.get("/login", method="POST", body=FORM, X_Forwarded_Proto="https").headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("text", "proxies"),
    [("", []), (" , ", []), ("127.0.0.1", ["127.0.0.1/32"]), ("10.0.0.0/8, ::1", ["10.0.0.0/8", "::1/128"])],
)
def test_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch, text: str, proxies: list[str]) -> None:
    monkeypatch.setenv(PROXIES_VARIABLE, text)
    assert proxies_from_environment() == proxies


@pytest.mark.parametrize("text", ["*", "proxy", "10.0.0.1/8", "10.0.0.0/99"])
def test_what_is_no_network_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(PROXIES_VARIABLE, text)
    with pytest.raises(UsageError, match=r"QTSEG_EDGE_WEB_PROXIES: wanted addresses or networks with commas .*172\.30\.77\.0/24"):
        proxies_from_environment()


@pytest.mark.parametrize("end", ["", "\n"])
def test_the_token_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str) -> None:
    (tmp_path / "token").write_text(TOKEN + end)
    monkeypatch.setenv(TOKEN_FILE_VARIABLE, str(tmp_path / "token"))
    assert token_from_environment() == TOKEN


def test_a_token_file_that_cannot_be_used_is_told_without_its_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv(TOKEN_FILE_VARIABLE, str(file))
    with pytest.raises(UsageError, match=r"QTSEG_EDGE_WEB_TOKEN_FILE=.*/token: cannot be read \(No such file or directory\)"):
        token_from_environment()
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not a text"):
        token_from_environment()
    file.write_text("two words of a secret")
    with pytest.raises(UsageError, match=r"QTSEG_EDGE_WEB_TOKEN_FILE: wanted 16 to 512 printable") as refused:
        token_from_environment()
    assert "secret" not in str(refused.value).partition("make one with")[0]
    use_token(monkeypatch)
    with pytest.raises(UsageError, match="are both set; leave one out"):
        token_from_environment()
