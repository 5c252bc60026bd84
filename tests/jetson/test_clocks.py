from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.jetson.clocks import are_locked, clocks, clocks_line, parse_jetson_clocks
from tests.jetson.boards import clock, orin_nano, program, thor, write
from tests.jetson.recorded import CLOCKS_ORIN_NANO, CLOCKS_THOR


@pytest.fixture(autouse=True)
def _no_jetson_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_clocks_that_follow_the_load(tmp_path: Path) -> None:
    found = clocks(orin_nano(tmp_path))
    assert [one.name for one in found] == ["cpu0", "cpu1", "cpu10", "17000000.gpu"] and not are_locked(found)
    assert clocks_line(found) == "follow the load: CPU 730 to 1510 MHz, GPU 306 to 625 MHz"


def test_locked_clocks(tmp_path: Path) -> None:
    found = clocks(thor(tmp_path))
    assert [one.name for one in found] == ["cpu0", "gpu-gpc-0"] and are_locked(found)
    assert clocks_line(found) == "locked: CPU 2601 MHz, GPU 1575 MHz"


def test_a_core_that_is_off_has_no_clock(tmp_path: Path) -> None:
    root = orin_nano(tmp_path)
    (root / "sys/devices/system/cpu/cpu1/cpufreq/scaling_max_freq").unlink()
    assert [one.name for one in clocks(root)] == ["cpu0", "cpu10", "17000000.gpu"]


def test_a_pc_has_none(tmp_path: Path) -> None:
    write(tmp_path, clock("sys/devices/system/cpu/cpu0/cpufreq", "scaling_{}_freq", 800000, 4000000))
    assert clocks(tmp_path) == [] and clocks_line([]) == "" and not are_locked([])


def test_root_asks_jetson_clocks_which_knows_the_memory_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = orin_nano(tmp_path)
    (tmp_path / "shown").write_text(CLOCKS_THOR, encoding="utf-8")
    program(tmp_path / "bin", "jetson_clocks", f'[ "$*" = --show ] && cat {tmp_path}/shown', monkeypatch)
    assert clocks_line(clocks(root)).startswith("follow the load: CPU 730"), "who is not root is not let"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert clocks_line(clocks(root)) == "locked: CPU 2601 MHz, GPU 1575 MHz, memory 4266 MHz"
    program(tmp_path / "bin", "jetson_clocks", "echo 'Error: Run this script(jetson_clocks) as a root user'; exit 1", monkeypatch)
    assert clocks_line(clocks(root)).startswith("follow the load: CPU 730")


def test_what_jetson_clocks_shows_of_an_orin_nano() -> None:
    found = parse_jetson_clocks(CLOCKS_ORIN_NANO)
    assert [(one.name, one.min_mhz, one.max_mhz, one.mhz) for one in found] == [
        ("cpu0", 729.6, 1510.4, 960.0),
        ("GPU", 306.0, 624.75, 306.0),
        ("EMC", 204.0, 2133.0, 665.6),
    ]
    assert clocks_line(found) == "follow the load: CPU 730 to 1510 MHz, GPU 306 to 625 MHz, memory 204 to 2133 MHz"


@given(st.text() | st.lists(st.sampled_from(CLOCKS_THOR.split(" ") + CLOCKS_ORIN_NANO.split("\n"))).map(" ".join))
def test_no_output_is_too_odd(shown: str) -> None:
    assert all(one.min_mhz >= 0 for one in parse_jetson_clocks(shown))
