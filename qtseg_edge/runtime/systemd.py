"""Tells systemd how a run is doing (sd_notify(3)): nothing where it was not started by systemd as `Type=notify`."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


class Notifier:
    """Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID once. One that cannot be reached is ignored: it must not end a run."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._every = _watchdog_seconds() / 3
        self._alive_at = float("-inf")

    def ready(self) -> None:
        """The engine is loaded, and the sources are open."""
        self._send("READY=1")

    def alive(self) -> None:
        """Call as often as there is a result: systemd is told three times within WatchdogSec, and restarts a run that is silent."""
        now = time.monotonic()
        if self._every > 0 and now - self._alive_at >= self._every:
            self._alive_at = now
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """text: one line, for `systemctl status`."""
        self._send(f"STATUS={text}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as notify:
            notify.sendto(message.encode(errors="replace"), self._address)


def _watchdog_seconds() -> float:
    """0 where nobody waits for this process."""
    microseconds, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or process not in ("", str(os.getpid())):
        return 0.0
    return int(microseconds) / 1e6
