from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.board.nvidia_smi import GpuReading, GpuStream, gpu_stream_command, parse_gpu, read_gpu
from tests.jetson.boards import program

IDLE = GpuReading(34.0, 68.44, 1980.0, ())


@pytest.mark.parametrize(
    ("line", "reading"),
    [
        ("34, 68.44, 1980, 0x0000000000000000", IDLE),
        ("34, 68.44, 1980, 0x0000000000000001", IDLE),  # nothing to do
        ("34, 68.44, 1980, 0x0000000000000004", IDLE),  # at the power limit that was set
        ("88, 312.50, 1410, 0x0000000000000020", GpuReading(88, 312.5, 1410, ("GPU over temperature",))),
        ("95, 300.00, 600, 0x0000000000000048", GpuReading(95, 300, 600, ("GPU over temperature (hardware)",))),
        ("60, 90.00, 300, 0x0000000000000088", GpuReading(60, 90, 300, ("GPU power brake",))),
        ("60, 90.00, 300, 0x0000000000000008", GpuReading(60, 90, 300, ("GPU hardware slowdown",))),
        ("60, [N/A], [Not Supported], [N/A]", GpuReading(60, None, None, None)),
        ("[N/A], [N/A], [N/A], [N/A]", None),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", None),
        ("", None),
    ],
)
def test_a_line_is_read(line: str, reading: GpuReading | None) -> None:
    assert parse_gpu(line) == reading


@given(st.text() | st.lists(st.sampled_from(["34", "0x1", "[N/A]", "-1.5", "0x", "nan", "1e999"]), min_size=4, max_size=4).map(", ".join))
def test_no_line_is_too_odd(line: str) -> None:
    reading = parse_gpu(line)
    assert reading is None or reading != GpuReading(None, None, None, None)


@pytest.mark.parametrize("driver", ["new", "old", "none", "dead"])
def test_drivers_name_the_reasons_differently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    known = {"new": "clocks_event_reasons", "old": "clocks_throttle_reasons"}.get(driver)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    if known:
        script = f'case "$*" in "-i 1 "*{known}.active*) echo "34, 68.44, 1980, 0x0000000000000001";; *) echo Field; exit 2;; esac'
        program(tmp_path, "nvidia-smi", script, monkeypatch)
        command = gpu_stream_command(100)
        assert read_gpu() == IDLE and command is not None and f"{known}.active" in " ".join(command)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
        if driver == "dead":
            program(tmp_path, "nvidia-smi", "echo NVIDIA-SMI has failed; exit 9", monkeypatch)
        assert read_gpu() is None and gpu_stream_command(100) is None


def test_a_stream_gives_its_newest_line_and_forgets_it_when_no_more_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "nvidia-smi", 'echo noise; echo "34, 68.44, 1980, 0x0000000000000000"; exec sleep 60', monkeypatch)
    with GpuStream(["nvidia-smi"], every_s=0.2) as stream:
        started = time.monotonic()
        while stream.latest() is None:
            assert time.monotonic() - started < 20
            time.sleep(0.01)
        assert stream.latest() == IDLE
        time.sleep(0.7)
        assert stream.latest() is None
    assert stream._process.returncode == -9 and not stream._thread.is_alive()


def test_a_program_that_holds_its_output_open_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "nvidia-smi", "sleep 5; true", monkeypatch)  # a wrapper: when it is ended, what it started goes on
    with GpuStream(["nvidia-smi"], every_s=0.2) as stream:
        time.sleep(0.3)
        started = time.monotonic()
    assert time.monotonic() - started < 3
    stream._thread.join(20)  # other tests count threads
