"""The units, checked by systemd's own tools and run by hand: their command lines, with a stand-in for systemd's end of the socket."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from qtseg_edge.errors import INTERRUPTED, GateError, IncompatibleError, MissingError, QtsegError, SourceLostError, UsageError
from qtseg_edge.runtime.engine_file import read_sidecar, write_sidecar
from qtseg_edge.runtime.sinks.segment_list import LIST_NAME
from tests.deploy.units import Rules, command_of, read_environment, read_unit
from tests.live_runs import PATIENCE, ROOT
from tests.media import decoded

HERE = ROOT / "deploy" / "systemd"
UNITS = ("qtseg-edge@.service", "qtseg-edge-engine.service", "qtseg-edge-failed@.service")
RUN, ENGINE = read_unit(HERE / UNITS[0]), read_unit(HERE / UNITS[1])


def require(tool: str, package: str) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not here; apt-get install {package}")
    return found


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root to install into, with a virtual environment that has the command."""
    root = tmp_path / "image"
    program = root / "opt" / "qtseg-edge" / "bin" / "qtseg-edge"
    program.parent.mkdir(parents=True)
    shutil.copy("/bin/true", program)
    return root


def install(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(HERE / "install.sh"), *arguments]
    return subprocess.run(command, env={**os.environ, "DESTDIR": str(root)}, capture_output=True, text=True, timeout=60)


def tree(root: Path) -> dict[str, tuple[str, bytes]]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): (oct(path.stat().st_mode & 0o777), path.read_bytes()) for path in files}


def test_installing_twice_is_installing_once(image: Path) -> None:
    assert install(image, "--power-button").returncode == 0
    once = tree(image)
    assert install(image, "--power-button").returncode == 0
    assert tree(image) == once
    assert {f"etc/systemd/system/{unit}" for unit in UNITS} < set(once)
    assert once["etc/qtseg-edge/qtseg-edge.env"][0] == "0o640"
    assert stat.S_IMODE((image / "etc/qtseg-edge").stat().st_mode) == 0o750
    assert "etc/systemd/logind.conf.d/qtseg-edge.conf" in once


def test_installing_again_leaves_what_the_user_wrote_and_brings_the_rest_up_to_date(image: Path) -> None:
    install(image)
    settings, unit = image / "etc/qtseg-edge/qtseg-edge.env", image / "etc/systemd/system" / UNITS[0]
    settings.write_text("QTSEG_EDGE_OUTPUTS=-o null://\n", encoding="utf-8")
    unit.write_text("of an older version", encoding="utf-8")
    (image / "etc/qtseg-edge/camera.source").write_text("rtsp://user:password@host/", encoding="utf-8")
    install(image)
    assert settings.read_text(encoding="utf-8") == "QTSEG_EDGE_OUTPUTS=-o null://\n"
    assert unit.read_bytes() == (HERE / UNITS[0]).read_bytes()
    assert (image / "etc/qtseg-edge/camera.source").exists()
    assert not (image / "etc/systemd/logind.conf.d").exists()


def test_another_virtual_environment_is_in_every_unit(image: Path) -> None:
    shutil.copytree(image / "opt/qtseg-edge", image / "srv/venv-3.12")
    assert install(image, "--venv", "/srv/venv-3.12").returncode == 0
    for name in UNITS[:2]:
        unit = read_unit(image / "etc/systemd/system" / name)
        assert unit["Service"]["ExecStart"][0].startswith("/srv/venv-3.12/bin/qtseg-edge ")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--venv", "/home/me/venv"), "sees no home folders"),
        (("--venv", "/opt/other"), "pip install qtseg-edge"),
        (("--venv", "venv"), "begins with /"),
        (("--venv", "/opt/a|b"), "letters, digits"),
        (("--venv",), "wanted a folder"),
        (("--help-me",), "wanted --venv DIR or --power-button"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(image: Path, arguments: tuple[str, ...], reason: str) -> None:
    done = install(image, *arguments)
    assert done.returncode == 1 and reason in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (image / "etc").exists()


def test_a_python_that_the_service_cannot_see_is_refused(image: Path) -> None:
    python = image / "home/me/.pyenv/bin/python3.10"
    python.parent.mkdir(parents=True)
    python.touch()
    (image / "opt/qtseg-edge/bin/python3").symlink_to(python)
    done = install(image)
    assert done.returncode == 1 and "/usr/bin/python3 -m venv" in done.stderr and not (image / "etc").exists()


def test_the_nodes_of_this_machines_gpu_are_allowed_by_name(image: Path) -> None:
    (image / "dev" / "nvgpu" / "igpu0").mkdir(parents=True)
    try:
        for node in ("nvmap", "nvhost-ctrl-gpu", "nvgpu/igpu0/ctrl", "sda-is-not-ours"):
            os.mknod(image / "dev" / node, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this user may not make device nodes")
    (image / "dev" / "nvme-notes.txt").write_text("a file, and no device", encoding="utf-8")
    install(image)
    for name in UNITS[:2]:
        drop_in = read_unit(image / "etc/systemd/system" / f"{name}.d" / "devices.conf")
        assert drop_in["Service"]["DeviceAllow"] == ["/dev/nvgpu/igpu0/ctrl rw", "/dev/nvhost-ctrl-gpu rw", "/dev/nvmap rw"]
    shutil.rmtree(image / "dev")
    install(image)
    assert not list((image / "etc/systemd/system").rglob("devices.conf"))


def test_the_scripts_are_clean() -> None:
    subprocess.run([require("shellcheck", "shellcheck"), str(HERE / "install.sh"), str(Path(__file__).parent / "boot.sh")], check=True)


@pytest.fixture
def instances(tmp_path: Path) -> list[Path]:
    """The units as files of a camera, with a program that is there."""
    paths = []
    for name in UNITS:
        text = (HERE / name).read_text(encoding="utf-8").replace("/opt/qtseg-edge/bin/qtseg-edge", "/bin/true")
        paths.append(tmp_path / name.replace("@", "@camera"))
        (tmp_path / name).write_text(text, encoding="utf-8")
        paths[-1].write_text(text, encoding="utf-8")
    return paths


def test_systemd_understands_every_line(instances: list[Path]) -> None:
    command = [require("systemd-analyze", "systemd"), "verify", "--man=no", *map(str, instances)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("number", range(len(UNITS)))
def test_systemd_rates_the_exposure_as_3_of_10_at_most(instances: list[Path], number: int) -> None:
    command = [require("systemd-analyze", "systemd"), "security", "--offline=true", "--threshold=30", str(instances[number])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert float(done.stdout.rpartition("exposure level for ")[2].split(": ")[1].split()[0]) <= 3.0


def test_the_user_its_groups_and_folders_are_made(image: Path) -> None:
    install(image)
    subprocess.run([require("systemd-sysusers", "systemd"), f"--root={image}"], check=True, capture_output=True)
    groups = dict(line.split(":")[0::3] for line in (image / "etc/group").read_text(encoding="utf-8").splitlines())
    assert groups["video"] == groups["render"] == "qtseg-edge"
    assert "qtseg-edge:x:" in (image / "etc/passwd").read_text(encoding="utf-8")
    if os.geteuid() != 0:
        pytest.skip("this user may not make folders for another one")
    subprocess.run([require("systemd-tmpfiles", "systemd"), f"--root={image}", "--create"], check=True)
    assert stat.S_IMODE((image / "var/lib/qtseg-edge").stat().st_mode) == 0o750
    assert str((image / "var/lib/qtseg-edge").stat().st_uid) in (image / "etc/passwd").read_text(encoding="utf-8")


def test_events_go_by_age_only_where_the_user_has_said_so() -> None:
    lines = (HERE / "tmpfiles.conf").read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in lines if not line.startswith("#")] == ["d", "d"]
    assert all(line.endswith(" -") for line in lines if not line.startswith("#"))
    assert not any("keep=" in value or "days=" in value for value in read_environment(HERE / "qtseg-edge.env").values())


def test_a_restart_is_tried_where_it_can_help() -> None:
    service = RUN["Service"]
    hopeless = set(service["RestartPreventExitStatus"][0].split())
    assert {str(kind.exit_code) for kind in (UsageError, IncompatibleError, GateError)} == hopeless - {"203", "217", "243"}
    assert not {str(kind.exit_code) for kind in (QtsegError, MissingError, SourceLostError)} & hopeless
    assert service["SuccessExitStatus"] == [str(INTERRUPTED)] == ENGINE["Service"]["SuccessExitStatus"]
    starts_in = float(RUN["Unit"]["StartLimitIntervalSec"][0]) / float(service["RestartSec"][0])
    assert starts_in < int(RUN["Unit"]["StartLimitBurst"][0])  # a camera that is away for a night is not given up


def test_what_the_engine_unit_writes_is_what_the_run_opens() -> None:
    settings = read_environment(HERE / "qtseg-edge.env")
    built, run = command_of(ENGINE, settings), command_of(RUN, {**settings, "CREDENTIALS_DIRECTORY": "/run/c"}, "camera")
    assert built[built.index("-o") + 1] == run[run.index("--model") + 1] == "/var/lib/qtseg-edge/engines/model.engine"
    assert "--if-needed" in built and "@/run/c/source" in run
    assert RUN["Service"]["User"] == ENGINE["Service"]["User"]  # an engine is opened by the user that built it
    assert "qtseg-edge-engine.service" in RUN["Unit"]["Wants"][0] and "qtseg-edge-engine.service" in RUN["Unit"]["After"][0]
    assert "RemainAfterExit" not in ENGINE["Service"]  # so that it is asked again before every start


def test_the_run_unit_is_started_by_a_camera_that_is_plugged_in() -> None:
    rules = Rules(HERE / "70-qtseg-edge.rules")
    video, capture = {"ACTION": "add", "SUBSYSTEM": "video4linux"}, {"ID_V4L_CAPABILITIES": ":capture:", "ID_BUS": "usb"}
    known, links, tags = rules.applied(video, capture)
    assert (known["SYSTEMD_WANTS"], links, tags) == ("qtseg-edge@camera.service", ["qtseg-edge/camera"], ["systemd"])
    known, links, _ = rules.applied(video, {**capture, "QTSEG_EDGE_NAME": "tower"})
    assert (known["SYSTEMD_WANTS"], links) == ("qtseg-edge@tower.service", ["qtseg-edge/tower"])
    known, links, _ = rules.applied(video, {"ID_V4L_CAPABILITIES": ":capture:", "ID_BUS": "pci", "QTSEG_EDGE_NAME": "sdi"})
    assert (known["SYSTEMD_WANTS"], links) == ("qtseg-edge@sdi.service", ["qtseg-edge/sdi"])


@pytest.mark.parametrize(
    ("event", "properties"),
    [
        ({"ACTION": "remove", "SUBSYSTEM": "video4linux"}, {"ID_V4L_CAPABILITIES": ":capture:", "ID_BUS": "usb"}),
        ({"ACTION": "add", "SUBSYSTEM": "sound"}, {"ID_V4L_CAPABILITIES": ":capture:", "ID_BUS": "usb"}),
        ({"ACTION": "add", "SUBSYSTEM": "video4linux"}, {"ID_V4L_CAPABILITIES": ":", "ID_BUS": "usb"}),  # the metadata of a camera
        ({"ACTION": "add", "SUBSYSTEM": "video4linux"}, {"ID_V4L_CAPABILITIES": ":video_output:", "ID_BUS": "usb"}),
        ({"ACTION": "add", "SUBSYSTEM": "video4linux"}, {"ID_V4L_CAPABILITIES": ":capture:"}),  # a board's own sensor without a name
    ],
)
def test_nothing_is_started_by_other_devices(event: dict[str, str], properties: dict[str, str]) -> None:
    assert Rules(HERE / "70-qtseg-edge.rules").applied(event, properties) == (properties, [], [])


def test_udev_understands_the_rules() -> None:
    udevadm = require("udevadm", "udev")
    if "verify" not in subprocess.run([udevadm, "--help"], capture_output=True, text=True).stdout:
        pytest.skip("this udevadm cannot verify rules (systemd 253 and newer can)")
    subprocess.run([udevadm, "verify", str(HERE / "70-qtseg-edge.rules")], check=True, timeout=60)


def as_systemd(command: list[str]) -> list[str]:
    """The unit's command line with this checkout's program in the place of the installed one."""
    assert command[0] == "/opt/qtseg-edge/bin/qtseg-edge"
    return [sys.executable, "-m", "qtseg_edge.cli", *command[1:]]


def test_the_units_command_line_is_ready_stays_alive_and_stops_cleanly(tmp_path: Path) -> None:
    """As systemd runs it: its folder, its environment file, the address in a credential, its socket, SIGTERM."""
    settings, credentials, state = tmp_path / "qtseg-edge.env", tmp_path / "credentials", tmp_path / "state"
    example = (HERE / "qtseg-edge.env").read_text(encoding="utf-8")
    recorded = next(line[1:] for line in example.splitlines() if line.startswith("#QTSEG_EDGE_OUTPUTS"))
    outputs = recorded.replace("8080", "0").replace("10min", "1s")
    settings.write_text(f"QTSEG_EDGE_RUN_OPTIONS=--device fake\n{outputs}\n", encoding="utf-8")
    credentials.mkdir()
    (credentials / "source").write_text("testsrc://160x120@25\n", encoding="utf-8")
    for folder in (state, state / "events"):
        folder.mkdir()
    environment = {
        **read_environment(settings),
        "CREDENTIALS_DIRECTORY": str(credentials),
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "900000",
    }
    command = as_systemd(command_of(RUN, environment, "camera"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, (tmp_path / "log").open("w") as log:
        systemd.bind(environment["NOTIFY_SOCKET"])
        systemd.settimeout(PATIENCE)
        variables = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        service = subprocess.Popen(command, cwd=state, env=variables, stdout=log, stderr=log)
        try:
            messages = [systemd.recv(1000).decode()]
            while messages.count("WATCHDOG=1") < 8:
                messages.append(systemd.recv(1000).decode())
            stopped = time.monotonic()
            service.send_signal(getattr(signal, RUN["Service"]["KillSignal"][0]))
            code = service.wait(PATIENCE)
            seconds = time.monotonic() - stopped
        finally:
            service.kill()
            service.wait()
        systemd.setblocking(False)
        while messages[-1] != "STOPPING=1":
            messages.append(systemd.recv(1000).decode())
    said = (tmp_path / "log").read_text(encoding="utf-8")
    assert messages[0] == "READY=1" and any(message.startswith("STATUS=") for message in messages)
    assert str(code) in RUN["Service"]["SuccessExitStatus"], said
    assert seconds < float(RUN["Service"]["TimeoutStopSec"][0])
    recordings = sorted((state / "recordings").glob("*.mp4"))
    assert len(recordings) >= 2 and not any("recording" in path.name for path in recordings)
    assert all(len(decoded(path)) > 0 for path in recordings) and (state / "recordings" / LIST_NAME).exists()
    assert len(list((state / "events").glob("*.events.jsonl"))) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_engine_units_command_line_builds_once_and_again_when_it_no_longer_fits(
    tmp_path: Path, small_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="an engine is built by TensorRT-RTX, which needs no GPU")
    from qtseg_edge.export import example_frames, export_checkpoint

    model = export_checkpoint(small_checkpoint, tmp_path / "small.onnx", example_frames(), batch=1).onnx
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    engine = tmp_path / "engines" / "model.engine"
    engine.parent.mkdir()
    options = {"QTSEG_EDGE_BUILD_OPTIONS": f"{model} --precision fp32 --flavour tensorrt-rtx"}
    command = [word.replace("/var/lib/qtseg-edge/engines", str(engine.parent)) for word in as_systemd(command_of(ENGINE, options))]

    def started() -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    started()
    built_at = engine.stat().st_mtime_ns
    assert "nothing to build" in started() and engine.stat().st_mtime_ns == built_at
    write_sidecar(engine, replace(read_sidecar(engine), tensorrt="0.9").signed())  # as after an upgrade of JetPack
    assert "building again" in started() and engine.stat().st_mtime_ns > built_at
    assert read_sidecar(engine).tensorrt != "0.9"
