from __future__ import annotations

from pathlib import Path

import pytest

from qtseg_edge.board.reader import board_reader, is_jetson
from qtseg_edge.jetson.sensors import JetsonSensors
from tests.jetson.boards import cooling, orin_nano, rail, thor, write, zones


def test_an_orin_nano(tmp_path: Path) -> None:
    sensors = JetsonSensors(orin_nano(tmp_path))
    reading = sensors.read()
    assert reading.temperature_celsius == {"cpu": 47.656, "gpu": 47.343, "soc0": 46.0, "tj": 48.218}
    assert reading.hottest == "tj 48.2 °C"
    assert (reading.watts, reading.power_of, reading.throttled) == (pytest.approx(4.984), "board", ())
    assert sensors.rails_mw().keys() == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}, "and not the sum of shunt voltages"
    assert sensors.events() == {"under-voltage": 0, "average over-current": 0, "instantaneous over-current": 27}


def test_a_thor_with_its_gpu_off(tmp_path: Path) -> None:
    reading = JetsonSensors(thor(tmp_path)).read()
    assert reading.temperature_celsius == {"tj": 55.1, "cpu": 53.7, "soc012": 55.1, "soc345": 53.7}
    assert (reading.watts, reading.throttled) == (pytest.approx(20.986), ())


def test_an_agx_orin_adds_its_three_inputs(tmp_path: Path) -> None:
    write(tmp_path, {"sys/class/hwmon/hwmon2/name": "ina3221"} | rail("hwmon2", 1, "VDD_GPU_SOC", 20000, 100))
    write(tmp_path, rail("hwmon2", 2, "VDD_CPU_CV", 20000, 50) | rail("hwmon2", 3, "VIN_SYS_5V0", 5000, 900))
    assert JetsonSensors(tmp_path).read().watts == pytest.approx(7.5)
    (tmp_path / "sys/class/hwmon/hwmon2/curr3_input").unlink()
    assert JetsonSensors(tmp_path).read().watts is None, "a part is not the board"


def test_heat_is_told_while_it_lasts(tmp_path: Path) -> None:
    sensors = JetsonSensors(thor(tmp_path))
    state = tmp_path / "sys/class/thermal/cooling_device11/cur_state"
    state.write_text("1\n", encoding="utf-8")
    assert sensors.read().throttled == sensors.read().throttled == ("gpu over temperature",)
    state.write_text("0\n", encoding="utf-8")
    assert sensors.read().throttled == ()


def test_a_fan_that_turns_and_a_hot_surface_are_no_throttling(tmp_path: Path) -> None:
    root = orin_nano(tmp_path)
    for number in (1, 4):
        write(root, {f"sys/class/thermal/cooling_device{number}/cur_state": 4})
    assert JetsonSensors(root).read().throttled == ()


def test_events_of_the_hardware_are_told_once(tmp_path: Path) -> None:
    sensors = JetsonSensors(orin_nano(tmp_path))
    write(tmp_path, {"sys/class/hwmon/hwmon3/oc1_event_cnt": 1, "sys/class/hwmon/hwmon3/oc3_event_cnt": 30})
    assert sensors.read().throttled == ("under-voltage", "instantaneous over-current")
    assert sensors.read().throttled == ()
    write(tmp_path, {"sys/class/hwmon/hwmon3/oc3_event_cnt": 2})  # counted anew
    assert sensors.read().throttled == ()


def test_a_board_that_tells_of_no_throttling_is_not_called_unthrottled(tmp_path: Path) -> None:
    write(tmp_path, zones(cpu=40000))
    assert JetsonSensors(tmp_path).read().throttled is None
    write(tmp_path, cooling("cpu-throttle-alert"))
    assert JetsonSensors(tmp_path).read().throttled == ()


def test_files_that_go_away_or_hold_no_number_are_left_out(tmp_path: Path) -> None:
    sensors = JetsonSensors(orin_nano(tmp_path))
    (tmp_path / "sys/class/thermal/thermal_zone0/temp").write_text("unreadable", encoding="utf-8")
    (tmp_path / "sys/class/thermal/thermal_zone1/temp").unlink()
    (tmp_path / "sys/class/hwmon/hwmon1/curr1_input").unlink()
    (tmp_path / "sys/class/hwmon/hwmon3/oc1_event_cnt").unlink()
    reading = sensors.read()
    assert (reading.temperature_celsius.keys(), reading.watts, reading.throttled) == ({"soc0", "tj"}, None, ())


def test_a_container_without_nvidias_file_is_a_jetson_by_its_gpu(tmp_path: Path) -> None:
    root = thor(tmp_path)
    (root / "etc/nv_tegra_release").unlink()
    assert is_jetson(root) and isinstance(board_reader(root), JetsonSensors)
    assert not is_jetson(tmp_path / "elsewhere") and board_reader(tmp_path / "elsewhere") is None
