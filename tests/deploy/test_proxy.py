"""The proxy's own configuration in a real nginx, with a certificate that `make_secrets.py` has made, before a real run with its page."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPMessage, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the web server is not installed; get it with: pip install 'qtseg-edge[web]'")
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.deploy.containers import DEPLOY, HEALTHCHECK, PATIENCE
from tests.live_runs import LiveRun
from tests.runtime.web.site import ask_until

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or ""


def made_secrets(folder: Path, host: str) -> Path:
    """In a copy of `deploy`, as the script makes them beside itself."""
    shutil.copy(DEPLOY / "make_secrets.py", folder)
    shutil.copytree(DEPLOY / "media", folder / "media", dirs_exist_ok=True)
    done = subprocess.run([sys.executable, str(folder / "make_secrets.py"), host], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "secrets"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def configuration(folder: Path, secrets: Path, ports: dict[str, str]) -> Path:
    """As it is, but for where files and the other containers are."""
    text = (DEPLOY / "proxy" / "nginx.conf").read_text()
    for old, new in {" /tmp/": f" {folder}/", "/run/secrets": str(secrets), **ports}.items():
        assert old in text, f"the configuration names no {old}"
        text = text.replace(old, new)
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


class Proxied:
    """A run of the test picture with the fake backend, and nginx before it."""

    def __init__(self, folder: Path) -> None:
        if not NGINX:
            pytest.skip("nginx is not installed; get it with: apt install nginx-light")
        self.secrets = made_secrets(folder, "127.0.0.1")
        self.token = (self.secrets / "web_token").read_text().strip()
        self.port, self.page = free_port(), free_port()
        ports = {"8443": str(self.port), "8444": str(free_port()), "edge:8080": f"127.0.0.1:{self.page}"}
        self.config = configuration(folder, self.secrets, ports)
        self.tls = ssl.create_default_context(cafile=str(self.secrets / "tls_certificate"))
        environment = {"QTSEG_EDGE_WEB_TOKEN_FILE": str(self.secrets / "web_token"), "QTSEG_EDGE_WEB_PROXIES": "127.0.0.1"}
        self.environment = environment
        arguments = ("--source", "testsrc://160x120@25", "-o", f"web://0.0.0.0:{self.page}")
        self.run = LiveRun(folder, *arguments, environment=environment)
        self.nginx = subprocess.Popen([NGINX, "-c", str(self.config), "-g", "daemon off;"], stderr=subprocess.PIPE, text=True)

    @property
    def origin(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def get(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, HTTPMessage, str]:
        """Redirects are not followed."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.origin + path, body, named)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.tls), _NoRedirect())
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()

    def watch(self, **options: Any) -> ClientConnection:
        address = f"wss://127.0.0.1:{self.port}/streams/0/live"
        return connect(address, ssl=self.tls, open_timeout=PATIENCE, close_timeout=1, proxy=None, **options)

    def wait(self) -> None:
        """Until the page is there, through nginx."""
        deadline = time.monotonic() + PATIENCE
        while True:
            assert self.nginx.poll() is None, self.nginx.communicate()[1]
            assert self.run.process.poll() is None, self.run.err
            try:
                if self.get("/healthz")[0] == 200:
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, "the page did not come"
            time.sleep(0.05)

    def close(self) -> None:
        self.run.kill()
        self.nginx.terminate()
        self.nginx.communicate(timeout=PATIENCE)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    site = Proxied(tmp_path_factory.mktemp("proxied"))
    try:
        site.wait()
        yield site
    finally:
        site.close()


def test_nginx_takes_its_configuration(proxied: Proxied) -> None:
    done = subprocess.run([NGINX, "-t", "-c", str(proxied.config)], capture_output=True, text=True)
    assert done.returncode == 0 and "[warn]" not in done.stderr and "syntax is ok" in done.stderr


def test_the_page_comes_over_tls_with_its_own_headers(proxied: Proxied) -> None:
    assert proxied.get("/healthz")[::2] == (200, "alive\n")
    status, headers, text = proxied.get("/login")
    assert status == 200 and "token" in text
    assert headers["Strict-Transport-Security"] == "max-age=31536000"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    status, headers, _ = proxied.get("/")
    assert (status, headers["Location"]) == (303, "/login")
    assert proxied.get("/readyz")[0] == 401


def cookie(proxied: Proxied) -> str:
    form = f"token={proxied.token}".encode()
    status, headers, _ = proxied.get("/login", form, Origin=proxied.origin)
    assert status == 303
    assert {"Secure", "HttpOnly", "SameSite=strict"} <= set(headers["Set-Cookie"].split("; "))
    return str(headers["Set-Cookie"].partition(";")[0])


def test_who_has_shown_the_token_gets_pictures_over_a_websocket(proxied: Proxied) -> None:
    with proxied.watch(origin=proxied.origin, additional_headers={"Cookie": cookie(proxied)}) as watching:
        message = ask_until(watching, lambda message: message.header["signal"])
    assert message.picture.shape[:2] == (120, 160)


def test_another_sites_page_gets_none_of_it(proxied: Proxied) -> None:
    for origin in ("https://evil.example", f"https://127.0.0.1:{proxied.port + 1}"):
        with pytest.raises(InvalidStatus) as refused:
            proxied.watch(origin=origin, additional_headers={"Cookie": cookie(proxied)})
        assert refused.value.response.status_code == 403
        assert proxied.get("/login", b"token=x", Origin=origin)[0] == 403
    with pytest.raises(InvalidStatus) as refused:
        proxied.watch(origin=proxied.origin)
    assert refused.value.response.status_code == 401


def test_wrong_tokens_count_for_who_sends_them_whoever_they_say_they_are(proxied: Proxied) -> None:
    """From another address of this machine, which the other tests do not use."""

    def asked(forwarded: str) -> int:
        connection = HTTPSConnection("127.0.0.1", proxied.port, context=proxied.tls, timeout=PATIENCE, source_address=("127.0.0.2", 0))
        with closing(connection):
            connection.request("GET", "/metrics", headers={"Authorization": "Bearer wrong", "X-Forwarded-For": forwarded})
            return connection.getresponse().status

    assert [asked(f"192.0.2.{n}") for n in range(6)] == [401] * 5 + [429]
    assert "web: a wrong token from 127.0.0.2" in proxied.run.err and "192.0.2" not in proxied.run.err
    assert proxied.get("/metrics", Authorization=f"Bearer {proxied.token}")[0] == 200


def test_the_health_check_is_whether_it_is_ready(proxied: Proxied) -> None:
    def health(**changes: str) -> tuple[int, str]:
        environment = {**os.environ, **proxied.environment, "QTSEG_EDGE_HEALTH_URL": f"http://127.0.0.1:{proxied.page}/readyz", **changes}
        done = subprocess.run([sys.executable, str(HEALTHCHECK)], env=environment, capture_output=True, text=True)
        assert done.stderr == ""
        return done.returncode, done.stdout.strip()

    deadline = time.monotonic() + PATIENCE
    while (answer := health())[0] != 0:
        assert "reasons" in answer[1] and time.monotonic() < deadline, answer
    assert json.loads(answer[1]) == {"ready": True, "reasons": []}
    assert health(QTSEG_EDGE_HEALTH_URL=f"http://127.0.0.1:{free_port()}/readyz") == (1, "<urlopen error [Errno 111] Connection refused>")
    code, text = health(QTSEG_EDGE_WEB_TOKEN_FILE="/nothing/here")
    assert code == 1 and "No such file or directory" in text
    (proxied.secrets.parent / "wrong").write_text("another-token-that-is-long-enough")
    assert health(QTSEG_EDGE_WEB_TOKEN_FILE=str(proxied.secrets.parent / "wrong")) == (1, "this is not the token")


@pytest.mark.parametrize("host", ["theatre-3.example", "192.0.2.7", "2001:db8::7"])
def test_secrets_are_made_once_and_only_their_folder_is_closed(tmp_path: Path, host: str) -> None:
    secrets = made_secrets(tmp_path, host)
    names = {"web_token", "media_output", "media_viewer", "media_config", "source", "tls_certificate", "tls_key"}
    assert {path.name for path in secrets.iterdir()} == names
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o444}
    assert len((secrets / "web_token").read_text().strip()) >= 32
    command = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", str(secrets / "tls_certificate")]
    names_in_it = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert host.upper().replace("::", ":0:0:0:0:0:") in names_in_it.upper()
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    made_secrets(tmp_path, host)
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before


def test_the_media_server_knows_hashes_of_the_passwords_alone(tmp_path: Path) -> None:
    import base64
    import hashlib

    secrets = made_secrets(tmp_path, "theatre-3.example")
    config = (secrets / "media_config").read_text()
    address = (secrets / "media_output").read_text().strip()
    publisher = address.removeprefix("rtsp://edge:").removesuffix("@media:8554/endoscope")
    viewer = (secrets / "media_viewer").read_text().strip()
    for password in (publisher, viewer):
        assert len(password) == 32 and password not in config
        assert f'"sha256:{base64.b64encode(hashlib.sha256(password.encode()).digest()).decode()}"' in config
    assert "@PUBLISHER@" not in config and "@VIEWER@" not in config


@pytest.mark.parametrize("name", ["tls_key", "tls_certificate"])
def test_half_of_a_certificate_is_never_replaced(tmp_path: Path, name: str) -> None:
    """A hospital's own key cannot be had again."""
    shutil.copy(DEPLOY / "make_secrets.py", tmp_path)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / name).write_text("the hospital's own")
    done = subprocess.run([sys.executable, str(tmp_path / "make_secrets.py"), "theatre-3.example"], capture_output=True, text=True)
    assert done.returncode == 1 and "without its other half" in done.stderr
    assert [(path.name, path.read_text()) for path in (tmp_path / "secrets").iterdir()] == [(name, "the hospital's own")]


@pytest.mark.parametrize("arguments", [[], ["a b"], ["a", "b"], ["https://x"], ["-x"], ["x;y"]])
def test_secrets_want_a_name_that_can_be_one(tmp_path: Path, arguments: list[str]) -> None:
    shutil.copy(DEPLOY / "make_secrets.py", tmp_path)
    done = subprocess.run([sys.executable, str(tmp_path / "make_secrets.py"), *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and "wanted the name or address that viewers type" in done.stderr
    assert not (tmp_path / "secrets").exists()
