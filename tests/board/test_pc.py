from __future__ import annotations

from pathlib import Path

import pytest

from qtseg_edge.board.nvidia_smi import GpuReading
from qtseg_edge.board.pc import PcSensors
from qtseg_edge.board.reader import board_reader
from tests.jetson.boards import write

COUNTER = "sys/devices/system/cpu/cpu{}/thermal_throttle/package_throttle_count"


@pytest.mark.parametrize("chip", ["coretemp", "k10temp"])
def test_the_cpu_is_as_warm_as_its_hottest_sensor(tmp_path: Path, chip: str) -> None:
    write(tmp_path, {"sys/class/hwmon/hwmon0/name": "nvme", "sys/class/hwmon/hwmon0/temp1_input": 90000})
    write(tmp_path, {"sys/class/hwmon/hwmon10/name": chip})
    write(tmp_path, {"sys/class/hwmon/hwmon10/temp1_input": 61000, "sys/class/hwmon/hwmon10/temp2_input": 63500})
    reader = board_reader(tmp_path)
    assert isinstance(reader, PcSensors)
    assert (reader.read().temperature_celsius, reader.read().watts, reader.read().throttled) == ({"cpu": 63.5}, None, None)


def test_without_such_a_chip_the_zone_of_the_package_counts(tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone2"
    write(tmp_path, {f"{zone}/type": "x86_pkg_temp", f"{zone}/temp": 55000, "sys/class/thermal/thermal_zone0/type": "acpitz"})
    assert PcSensors(tmp_path).read().temperature_celsius == {"cpu": 55.0}


def test_an_intel_cpu_counts_how_often_it_was_too_hot(tmp_path: Path) -> None:
    write(tmp_path, {COUNTER.format(core): 7 for core in range(2)})
    sensors = PcSensors(tmp_path)
    assert sensors.read().throttled == ()
    write(tmp_path, {COUNTER.format(1): 9})
    assert sensors.read().throttled == ("CPU over temperature",)
    assert sensors.read().throttled == ()


def test_the_gpu_is_told_beside_the_cpu(tmp_path: Path) -> None:
    write(tmp_path, {COUNTER.format(0): 0})
    given = [GpuReading(91, 310.5, 900, ("GPU over temperature",)), None]
    sensors = PcSensors(tmp_path, lambda: given.pop(0))
    reading = sensors.read()
    assert (reading.temperature_celsius, reading.watts, reading.power_of) == ({"gpu": 91}, 310.5, "GPU")
    assert reading.throttled == ("GPU over temperature",) and reading.hottest == "gpu 91.0 °C"
    assert sensors.read().throttled == ()


def test_a_virtual_machine_tells_nothing(tmp_path: Path) -> None:
    assert board_reader(tmp_path) is None
    assert PcSensors(tmp_path).read().hottest == ""
