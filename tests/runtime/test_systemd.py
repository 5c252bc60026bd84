from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from qtseg_edge.runtime.systemd import Notifier

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that systemd listens on."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    name = f"qtseg-{uuid.uuid4()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}" if request.param == "abstract" else name)
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if request.param == "abstract" else name)
        yield listening


def pending(listening: socket.socket) -> list[str]:
    listening.setblocking(False)
    messages = []
    while True:
        try:
            messages.append(listening.recv(1000).decode())
        except BlockingIOError:
            return messages


def test_it_tells_what_happens(systemd: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready()
    notifier.status("25 fps, 40 ms old, größer")
    notifier.stopping()
    assert pending(systemd) == ["READY=1", "STATUS=25 fps, 40 ms old, größer", "STOPPING=1"]


def test_the_watchdog_is_fed_three_times_in_its_time(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    notifier = Notifier()
    started = time.monotonic()
    while time.monotonic() - started < 0.7:
        notifier.alive()
        time.sleep(0.005)
    messages = pending(systemd)
    assert set(messages) == {"WATCHDOG=1"}
    assert 2 <= len(messages) <= 4


@pytest.mark.parametrize(("microseconds", "process"), [(None, None), ("600000", "1"), ("0", None), ("x", None)])
def test_a_watchdog_that_nobody_asked_for_is_not_fed(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch, microseconds: str | None, process: str | None
) -> None:
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", process)):
        if value is not None:
            monkeypatch.setenv(name, value)
    Notifier().alive()
    assert pending(systemd) == []


def test_without_systemd_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    notifier = Notifier()
    notifier.ready()
    notifier.alive()
    notifier.stopping()


def test_a_systemd_that_is_gone_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Notifier().ready()


def test_a_systemd_that_reads_nothing_holds_nobody_up(systemd: socket.socket) -> None:
    notifier = Notifier()
    started = time.monotonic()
    for _ in range(2000):
        notifier.status("x" * 1000)
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_systemd_itself_takes_a_service_as_ready() -> None:
    if shutil.which("systemd-run") is None or not Path("/run/systemd/system").is_dir():
        pytest.skip("this machine is not run by systemd")
    program = "from qtseg_edge.runtime.systemd import Notifier; Notifier().ready()"
    command = ["systemd-run", "--wait", "--collect", "-p", "Type=notify", "-p", f"WorkingDirectory={ROOT}", sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
