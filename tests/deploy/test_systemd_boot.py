"""The units as they are, with all their restrictions, under a systemd that has really booted: in namespaces, without a camera or a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live_runs import ROOT
from tests.media import decoded

HERE = Path(__file__).parent
UNIT = "qtseg-edge@camera"
PATIENCE = 120.0
_NAMESPACES = ("--pid", "--fork", "--mount", "--cgroup", "--uts", "--ipc", "--net")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# systemd in a container without mount rights of its own hands credentials over in a way that its user cannot read; a board's does not.
_DROP_IN = "[Service]\nLoadCredential=\nEnvironment=CREDENTIALS_DIRECTORY=/opt/credentials\n"
_PROGRAM = """#!/bin/sh
export PYTHONPATH=/opt/python-1:/opt/python-2 PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -m qtseg_edge.cli "$@"
"""


class Machine:
    """Booted. state: what it wrote below /var/lib/qtseg-edge/camera, to be read from here while `holder` lives."""

    def __init__(self, guest: Path) -> None:
        command = ["unshare", *_NAMESPACES, "--kill-child", str(HERE / "boot.sh"), str(guest), sysconfig.get_path("purelib"), str(ROOT)]
        self._outer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        until(lambda: children.read_text().strip() != "" and self._is_systemd(children.read_text().split()[0]), "no systemd")
        self.pid = int(children.read_text().split()[0])
        until(lambda: self.run("systemctl", "is-system-running") in ("running", "degraded"), "it did not boot")
        # In its mount namespace and not among its processes: it outlives a power-off.
        self._holder = subprocess.Popen(["nsenter", "-t", str(self.pid), "-m", "-r", "-w", "sleep", "600"])
        self.state = Path(f"/proc/{self._holder.pid}/root/var/lib/qtseg-edge/camera")

    @staticmethod
    def _is_systemd(pid: str) -> bool:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "systemd"

    def run(self, *command: str) -> str:
        inside = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--", *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=PATIENCE).stdout.strip()

    def property(self, name: str, unit: str = UNIT) -> str:
        return self.run("systemctl", "show", "-P", name, unit)

    def is_up(self, restarts: int) -> bool:
        return (self.property("NRestarts"), self.property("SubState")) == (str(restarts), "running")

    def has_powered_off(self) -> bool:
        return self._outer.poll() is not None

    def recordings(self) -> list[Path]:
        return sorted((self.state / "recordings").glob("*.mp4"))

    def holds_pictures_of_an_open_segment(self) -> bool:
        return any(path.stat().st_size > 2000 for path in (self.state / "recordings").glob("*.recording.mp4"))

    def end(self) -> None:
        for process in (self._holder, self._outer):
            process.kill()
            process.wait()


def until(holds: Callable[[], bool], otherwise: str) -> float:
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < PATIENCE, otherwise
        time.sleep(0.2)
    return time.monotonic() - started


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    wanted = f"Python {sys.version_info.major}.{sys.version_info.minor}."
    python = (
        subprocess.run(["/usr/bin/python3", "--version"], capture_output=True, text=True).stdout
        if Path("/usr/bin/python3").exists()
        else ""
    )
    if os.geteuid() != 0 or subprocess.run(["unshare", *_NAMESPACES, "true"], capture_output=True).returncode:
        pytest.skip("this user may not make namespaces")
    if not python.startswith(wanted) or not Path("/lib/systemd/systemd").exists() or not shutil.which("nsenter"):
        pytest.skip(f"wants systemd, and a /usr/bin/python3 that is {wanted}x, which the service's user may run")
    guest = tmp_path / "guest"
    program = guest / "opt/qtseg-edge/bin/qtseg-edge"
    program.parent.mkdir(parents=True)
    program.write_text(_PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    subprocess.run([ROOT / "deploy/systemd/install.sh"], env={**os.environ, "DESTDIR": str(guest)}, check=True)
    for folder in ("etc/systemd/system/qtseg-edge@.service.d", "opt/credentials"):
        (guest / folder).mkdir()
    (guest / "etc/systemd/system/qtseg-edge@.service.d/test.conf").write_text(_DROP_IN, encoding="utf-8")
    for place in ("etc/qtseg-edge/camera.source", "opt/credentials/source"):
        (guest / place).write_text("testsrc://320x240@25\n", encoding="utf-8")
    outputs = "-o web://127.0.0.1:8080 -o events/{start}.events.jsonl -o recordings/?segment=20s&keep=1GB&days=30"
    settings = f"QTSEG_EDGE_RUN_OPTIONS=--device onnxruntime\nQTSEG_EDGE_OUTPUTS={outputs}\n"
    (guest / "etc/qtseg-edge/camera.env").write_text(settings, encoding="utf-8")
    booted = Machine(guest)
    yield booted
    booted.end()


def test_the_service_starts_restarts_and_leaves_whole_files_when_the_machine_powers_off(machine: Machine) -> None:
    machine.run("systemctl", "start", UNIT)
    assert machine.is_up(0), machine.run("journalctl", "--no-pager", "-u", UNIT)
    assert machine.property("ConditionResult", "qtseg-edge-engine") == "no"  # no GPU here
    until(lambda: "frames; age" in machine.property("StatusText"), "it does not say how it is doing")
    assert machine.run("stat", "-c", "%U %a", "/var/lib/qtseg-edge/camera/recordings") == "qtseg-edge 750"

    until(lambda: machine.holds_pictures_of_an_open_segment(), "nothing is recorded")
    machine.run("kill", "-KILL", machine.property("MainPID"))
    until(lambda: machine.is_up(1), "not started again after a crash")

    until(lambda: machine.holds_pictures_of_an_open_segment(), "nothing is recorded after the crash")
    machine.run("kill", "-STOP", machine.property("MainPID"))
    until(lambda: machine.is_up(2), "the watchdog did not act")
    journal = machine.run("journalctl", "--no-pager", "-u", UNIT)
    assert journal.count("an earlier run was cut off while it wrote this") == 2, journal

    time.sleep(4)
    machine.run("systemctl", "poweroff")
    assert until(machine.has_powered_off, "it does not power off") < 30
    assert len(machine.recordings()) >= 3 and not any(".recording" in path.name for path in machine.recordings())
    assert all(decoded(path) for path in machine.recordings())


def test_a_wrong_option_is_told_once_and_not_tried_again(machine: Machine) -> None:
    machine.run("sh", "-c", "echo 'QTSEG_EDGE_OUTPUTS=-o nonsense' >> /etc/qtseg-edge/camera.env")
    machine.run("systemctl", "start", UNIT)
    time.sleep(7)  # longer than RestartSec
    assert [machine.property(name) for name in ("ActiveState", "NRestarts", "ExecMainStatus")] == ["failed", "0", "2"]
    assert f"{UNIT} has failed and is not started again" in machine.run("journalctl", "--no-pager", "-t", "qtseg-edge", "-p", "alert")
