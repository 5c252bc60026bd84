"""The command on a board that gets too hot, and `--set-power-mode`: real processes, stand-ins for NVIDIA's programs, a /sys of an Orin."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.jetson.boards import nvpmodel, orin_nano, program, write
from tests.jetson.recorded import CONFIGURATIONS
from tests.live_runs import PATIENCE, ROOT, LiveRun

SHORT = ("--source", "testsrc://160x120@25", "--device", "fake", "-o", "null://", "--max-frames", "2")
# In a mount namespace of its own the process finds the board's sensors where every program looks for them.
_ON_BOARD = 'mount --bind "$1" /sys && shift && exec "$@"'


def called(command: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "qtseg_edge.cli", command, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)


def on_board(root: Path, *arguments: str) -> list[str]:
    command = ["unshare", "--mount", "sh", "-c", _ON_BOARD, "sh", str(root / "sys"), sys.executable, "-m", "qtseg_edge.cli", *arguments]
    if subprocess.run([*command[:7], "true"], capture_output=True).returncode:
        pytest.skip("this user may not mount another /sys")
    return command


def wait_for(path: Path, text: str) -> str:
    started = time.monotonic()
    while text not in (said := path.read_text(encoding="utf-8")):
        assert time.monotonic() - started < PATIENCE, said
        time.sleep(0.05)
    return said


def test_a_board_that_gets_too_hot_is_told_while_it_runs_and_at_the_end(tmp_path: Path) -> None:
    root = orin_nano(tmp_path / "board")
    command = on_board(root, "run", *SHORT[:4], "-o", "web://127.0.0.1:0", "--json")
    alert = root / "sys/class/thermal/cooling_device3/cur_state"
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=err,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job would ignore it
        )
        try:
            address = re.findall(r"Look at (\S+)", wait_for(tmp_path / "err", "Look at"))[0]
            alert.write_text("1\n", encoding="utf-8")
            wait_for(tmp_path / "err", "throttled")
            metrics = urllib.request.urlopen(f"{address}/metrics", timeout=PATIENCE).read().decode()
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 130
        finally:
            process.kill()
            process.wait(PATIENCE)
    assert 'qtseg_edge_device_temperature_celsius{zone="tj"} 48.218\n' in metrics
    assert 'qtseg_edge_device_power_watts{of="board"} 4.984\n' in metrics and "qtseg_edge_device_throttled 1.0\n" in metrics
    said = (tmp_path / "err").read_text(encoding="utf-8")
    assert said.count("qtseg-edge: throttled (gpu over temperature, tj 48.2 °C): slower than its power mode allows; ") == 1
    board = json.loads((tmp_path / "out").read_text(encoding="utf-8"))["board"]
    assert board["throttled_by"] == ["gpu over temperature"] and board["hottest_celsius"]["tj"] == 48.218
    assert board["watts"] == 4.984 and board["throttled_seconds"] >= 0


def test_a_gpu_of_a_pc_that_is_throttled_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'echo "88, 312.50, 1410, 0x0000000000000020"; case "$*" in *-lms*) exec sleep 60;; esac'
    program(tmp_path / "bin", "nvidia-smi", script, monkeypatch)
    with LiveRun(tmp_path, "--source", "testsrc://160x120@25") as run:
        run.wait(lambda lines: len(lines) > 5 and "throttled" in run.err)
        code, _ = run.end()
    assert code == 130 and run.err.count("throttled (GPU over temperature, ") == 1
    assert "; throttled for " in run.out and "(GPU over temperature)" in run.out


def test_a_mode_is_set_once_and_what_it_was_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /etc/nvpmodel.conf, which this machine lacks: by its number."""
    folder = nvpmodel(write(tmp_path, {"etc/nvpmodel.conf": CONFIGURATIONS["orin-nano-super"]}), "changes", 0, monkeypatch)
    done = called("run", tmp_path, *SHORT, "--set-power-mode", "2")
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr.splitlines()[0] == "qtseg-edge: power mode 15W -> MAXN_SUPER; it stays so after this run, back with: sudo nvpmodel -m 0"
    )
    assert (folder / "mode").read_text() == "2\n"


def test_nothing_is_changed_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = nvpmodel(write(tmp_path, {"etc/nvpmodel.conf": CONFIGURATIONS["thor"]}), "changes", 1, monkeypatch)
    program(tmp_path / "bin", "jetson_clocks", f': > {tmp_path}/locked; [ "$*" = --show ]', monkeypatch)
    assert called("run", tmp_path, *SHORT).returncode == 0
    assert (folder / "mode").read_text() == "1" and not (tmp_path / "locked").exists()


@pytest.mark.parametrize(("how", "code", "text"), [("wants a reboot", 1, "needs a reboot"), (None, 3, "no nvpmodel here")])
@pytest.mark.parametrize("command", ["run", "benchmark"])
def test_what_cannot_be_set_is_one_line_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, how: str | None, code: int, text: str
) -> None:
    if how is not None:
        nvpmodel(write(tmp_path, {"etc/nvpmodel.conf": CONFIGURATIONS["orin-nano"]}), how, 0, monkeypatch)
    done = called(command, tmp_path, *(SHORT if command == "run" else ()), "--set-power-mode", "1")
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1 and text in done.stderr
    if how is not None:
        assert (tmp_path / "programs" / "mode").read_text() == "0" and "sudo nvpmodel -m 1" in done.stderr
