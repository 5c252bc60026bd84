from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from qtseg_edge.benchmark.machine import gpu_bytes_used, gpus_of_nvidia_smi, machine_state
from qtseg_edge.benchmark.power import Sample, power_meter
from qtseg_edge.board.nvidia_smi import ask_nvidia_smi
from tests.benchmark.made import MACHINE
from tests.jetson.boards import orin_nano, program
from tests.jetson.recorded import ORIN_NANO

H100 = "NVIDIA H100 80GB HBM3, 550.54.15, P0, 1980, 2619, 1980, 700.00, 34\n"


def test_power_is_read_while_a_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ORIN_NANO.replace("VDD_IN 4910", "VDD_IN 6000")
    program(
        tmp_path / "bin", "tegrastats", f'echo "{ORIN_NANO}"; echo noise; echo "{line}"; : > {tmp_path}/said; exec sleep 60', monkeypatch
    )
    meter = power_meter(uses_gpu=False)
    assert meter is not None and "tegrastats" in meter.by
    with meter.measuring() as samples:
        while not (tmp_path / "said").exists() or len(samples) < 2:
            time.sleep(0.01)
    assert samples == [Sample(4.91, 48.218, 305), Sample(6.0, 48.218, 305)]


def test_the_power_of_a_gpu_is_of_no_use_for_what_runs_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """case "$*" in *event_reasons*) echo 'Field "clocks_event_reasons.active" is not a valid field to query.'; exit 2;; esac
        echo "[N/A], [N/A], [N/A], [N/A]"; echo "84, 312.50, 1410, 0x0000000000000024"; case "$*" in *-lms*) exec sleep 60;; esac"""
    program(tmp_path / "bin", "nvidia-smi", script, monkeypatch)
    assert power_meter(uses_gpu=False) is None
    meter = power_meter(uses_gpu=True)
    assert meter is not None, "a driver before R535 is asked by its own names"
    with meter.measuring() as samples:
        while not samples:
            time.sleep(0.01)
    assert samples == [Sample(312.5, 84, 1410, ("GPU over temperature",))]


def test_nothing_tells_the_power_of_most_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert power_meter(uses_gpu=False) is power_meter(uses_gpu=True) is None


def test_gpus_are_told_by_nvidia_smi() -> None:
    (gpu,) = gpus_of_nvidia_smi(H100)
    assert gpu == {
        "name": "NVIDIA H100 80GB HBM3",
        "driver": "550.54.15",
        "performance_state": "P0",
        "sm_mhz": 1980,
        "memory_mhz": 2619,
        "max_sm_mhz": 1980,
        "power_limit_w": 700.0,
        "temperature_c": 34,
    }
    (jetson,) = gpus_of_nvidia_smi("Orin (nvgpu), 540.4.0, [N/A], [N/A], [N/A], [N/A], [N/A], [N/A]")
    assert (jetson["name"], jetson["sm_mhz"]) == ("Orin (nvgpu)", None)
    assert gpus_of_nvidia_smi("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.") == []


def test_the_memory_in_use_is_that_of_all_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_bytes_used() is None
    program(tmp_path / "bin", "nvidia-smi", "echo 100; echo 28", monkeypatch)
    assert gpu_bytes_used() == 128 << 20
    program(tmp_path / "bin", "nvidia-smi", "echo '[N/A]'", monkeypatch)
    assert gpu_bytes_used() is None
    program(tmp_path / "bin", "nvidia-smi", "echo broken; exit 9", monkeypatch)
    assert (ask_nvidia_smi(("name",)), gpu_bytes_used()) == ("", None)


def test_clocks_and_governor_are_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    files = {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1510400\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "729600\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",
        "proc/cpuinfo": "model name\t: A CPU\ncpu MHz\t\t: 1.0\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    state = machine_state(tmp_path)
    assert (state.mhz, state.governor, state.power_mode) == ((1510.4, 729.6), "schedutil", "")
    assert state.gpus == ({"name": "GPU 17000000.gpu", "sm_mhz": 306.0},)
    assert state.cpu.startswith("A CPU") and "numpy" in state.versions


def test_a_virtual_machine_tells_its_clock_and_no_governor(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("model name\t: A CPU\ncpu MHz\t\t: 2445.4\n\ncpu MHz\t\t: 2400.0\n", encoding="utf-8")
    state = machine_state(tmp_path)
    assert (state.mhz, state.governor) == ((2445.4, 2400.0), "")
    assert "2445 MHz" in state.line()


def test_the_state_of_a_jetson_has_its_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    state = machine_state(orin_nano(tmp_path))
    assert (state.power_mode, state.clocks) == ("15W", "follow the load: CPU 730 to 1510 MHz, GPU 306 to 625 MHz")
    assert dict(state.rows())["before"] == "tj 48.2 °C, 5.0 W (board), not throttled"
    assert state.board is not None and state.board.temperature_celsius["gpu"] == 47.343
    assert "power mode 15W; clocks follow the load" in state.line()


@pytest.mark.parametrize(("load", "quiet"), [((0.2, 3.0, 3.0), True), ((0.8, 0.0, 0.0), False), (None, True)])
def test_a_machine_is_quiet_by_its_last_minute(load: tuple[float, float, float] | None, quiet: bool) -> None:
    assert replace(MACHINE, load_average=load).is_quiet is quiet
