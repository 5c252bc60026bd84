"""Who has shown the token: constant-time comparison, sessions that do not contain it, and a limit on guesses."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import time
from collections import OrderedDict, deque

SESSION_SECONDS = 24 * 3600
_FAILURES, _WINDOW_SECONDS = 5, 60.0  # of a client, before it has to wait
_CLIENTS = 256  # remembered; who fails from more addresses still guesses at 2**128 and more


class TooManyFailures(Exception):
    """seconds: until this client may try again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = math.ceil(seconds)


class Access:
    """token: None lets everybody in. Used by the server's thread alone."""

    def __init__(self, token: str | None) -> None:
        self.is_open = token is None
        self._digest = _digest(token or "")
        # From the token alone: a page goes on after a restart of the server, and a new token ends every session.
        self._session_key = hmac.digest(self._digest, b"qtseg-edge web session", "sha256")
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def admits_token(self, given: str, client: str) -> bool:
        """client: IP address it comes from. Raises TooManyFailures, whatever was given, after too many wrong ones from there."""
        if self.is_open:
            return True
        network, now = _network(client), time.monotonic()
        failures = self._failures.get(network, deque())
        while failures and now - failures[0] >= _WINDOW_SECONDS:
            failures.popleft()
        if len(failures) >= _FAILURES:
            raise TooManyFailures(_WINDOW_SECONDS - (now - failures[0]))
        if hmac.compare_digest(_digest(given), self._digest):
            return True
        failures.append(now)
        self._failures[network] = failures
        self._failures.move_to_end(network)
        if len(self._failures) > _CLIENTS:
            self._failures.popitem(last=False)
        return False

    def new_session(self) -> str:
        """The value of a cookie that stands for the token for SESSION_SECONDS."""
        until = str(int(time.time()) + SESSION_SECONDS)
        return f"{until}.{self._signature(until)}"

    def admits_session(self, value: str) -> bool:
        until, _, signature = value.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(until).encode()):
            return False
        return time.time() < int(until)  # ours, as its signature says

    def _signature(self, until: str) -> str:
        return hmac.digest(self._session_key, until.encode(), "sha256").hex()


def _digest(token: str) -> bytes:
    """Of one length, whatever the token's is: comparing tells nothing about it."""
    return hashlib.sha256(token.encode()).digest()


def _network(client: str) -> str:
    """A client of IPv6 has a whole network of addresses; one of IPv4 is itself, also where a socket of both calls it ::ffff:10.0.0.7."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return client
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
