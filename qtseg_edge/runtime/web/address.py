"""Where the page is served, and who may be let near it."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime.sources.uri import redacted

TOKEN_VARIABLE = "QTSEG_EDGE_WEB_TOKEN"
TOKEN_FILE_VARIABLE = "QTSEG_EDGE_WEB_TOKEN_FILE"  # of a container's secret, or systemd's credential
PROXIES_VARIABLE = "QTSEG_EDGE_WEB_PROXIES"
_LEAST_TOKEN, _LONGEST_TOKEN = 16, 512
_MAKE_TOKEN = f"export {TOKEN_VARIABLE}=$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')"
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_BACKLOG = 64


@dataclass(frozen=True)
class Address:
    """host: a name or an IP address, without brackets. port: 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """text: `web://HOST:PORT`, HOST in brackets where it is IPv6. Raises UsageError for anything else."""
    wanted = "wanted web://HOST:PORT, as in web://127.0.0.1:8080"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"--output {redacted(text)}: {wanted}") from error
    if not host or port is None or "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        token = f"; the token comes from {TOKEN_VARIABLE}" if "@" in text or parts.query else ""
        raise UsageError(f"--output {redacted(text)}: {wanted}{token}")
    return Address(host, port)


def token_from_environment() -> str | None:
    """What viewers must know; None where no token is set. Raises UsageError where it is too short, or no header could carry it.

    Not an option of the command line: every user of a machine may read the command lines of its processes.
    """
    variable, token = TOKEN_VARIABLE, os.environ.get(TOKEN_VARIABLE)
    path = os.environ.get(TOKEN_FILE_VARIABLE)
    if token is not None and path is not None:
        raise UsageError(f"{TOKEN_VARIABLE} and {TOKEN_FILE_VARIABLE} are both set; leave one out")
    if path is not None:
        variable, token = TOKEN_FILE_VARIABLE, _token_in(path)
    if token is None:
        return None
    if not _LEAST_TOKEN <= len(token) <= _LONGEST_TOKEN or not all("!" <= letter <= "~" for letter in token):
        raise UsageError(
            f"{variable}: wanted {_LEAST_TOKEN} to {_LONGEST_TOKEN} printable ASCII characters without spaces, got {len(token)}; "
            f"make one with: {_MAKE_TOKEN}"
        )
    return token


def _token_in(path: str) -> str:
    """Without the end of its line."""
    try:
        return Path(path).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text"
        raise UsageError(f"{TOKEN_FILE_VARIABLE}={path}: cannot be read ({reason}); wanted a file that holds the token") from error


def proxies_from_environment() -> list[str]:
    """Addresses and networks of the reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed. Raises UsageError."""
    texts = [text.strip() for text in os.environ.get(PROXIES_VARIABLE, "").split(",") if text.strip()]
    try:
        return [str(ipaddress.ip_network(text)) for text in texts]
    except ValueError as error:
        raise UsageError(
            f"{PROXIES_VARIABLE}: wanted addresses or networks with commas between them, such as 127.0.0.1,172.30.77.0/24; {error}"
        ) from error


def listening(address: Address, has_token: bool) -> socket.socket:
    """A socket that listens there. Raises UsageError (a name that is none; others could reach it, and there is no token), QtsegError."""
    where = f"--output web://{address}"
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{where}: no such host; wanted 127.0.0.1, or an address of this machine") from error
    family, kind, protocol, _, place = found[0]
    if not has_token and not ipaddress.ip_address(str(place[0]).partition("%")[0]).is_loopback:
        raise UsageError(
            f"{where}: other machines could reach it, so it needs a token; {_MAKE_TOKEN} (or use web://127.0.0.1:{address.port})"
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise QtsegError(f"{where}: cannot listen there ({error.strerror}); give another port, or see who has it: ss -ltnp") from error
    return listener


def is_local_name(host_header: str) -> bool:
    """host_header: `Host` of a request. A page that makes its own name point here (DNS rebinding) sends that name."""
    try:
        return (urlsplit(f"//{host_header}").hostname or "").rstrip(".") in _LOCAL_NAMES
    except ValueError:
        return False
