from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.jetson.tegrastats import Core, Tegrastats, parse_tegrastats, watts_of_rails, watts_of_tegrastats
from tests.jetson.recorded import AGX_ORIN, AGX_ORIN_OFF, ORIN_NANO, THOR, THOR_LOADED, THOR_R39


def test_an_orin_nano_is_read_whole() -> None:
    assert parse_tegrastats(ORIN_NANO) == Tegrastats(
        ram_mb=(2448, 7620),
        cores=tuple(Core(load, 729) for load in (0, 2, 0, 1, 0, 0)),
        gpu_load=0,
        gpu_mhz=(305,),
        emc_load=0,
        emc_mhz=2133,
        temperature_celsius={"cpu": 47.656, "soc2": 46.5, "gpu": 47.343, "tj": 48.218, "soc1": 48.218},
        rails_mw={"VDD_IN": 4910, "VDD_CPU_GPU_CV": 547, "VDD_SOC": 1411},
    )


def test_an_agx_orin_has_two_clusters_and_twelve_cores() -> None:
    stats = parse_tegrastats(AGX_ORIN)
    assert (len(stats.cores), stats.cores[4], stats.gpu_load, stats.gpu_mhz) == (12, Core(46, 1267), 0, (0, 0))
    assert (stats.emc_load, stats.emc_mhz, stats.temperature_celsius["tj"], stats.ram_mb) == (3, 2133, 52.562, (18207, 62841))


def test_what_is_off_is_left_out() -> None:
    stats = parse_tegrastats(AGX_ORIN_OFF)
    assert stats.cores == (Core(0, 729), None, None)
    assert stats.temperature_celsius == {"CPU": 42.5, "Tboard": 33, "tj": 44}
    assert "NC" not in stats.rails_mw and stats.rails_mw["VDDQ_VDD2_1V8AO"] == 302
    assert (stats.gpu_load, stats.gpu_mhz) == (0, (0,))


def test_a_thor_tells_no_load_of_its_gpu_when_idle() -> None:
    stats = parse_tegrastats(THOR)
    assert (stats.gpu_load, stats.gpu_mhz, len(stats.cores)) == (None, (314, 314, 314), 14)
    assert stats.temperature_celsius == {"cpu": 37.343, "tj": 38.875, "soc012": 37.468, "gpu": 38.875, "soc345": 37.406}
    assert stats.rails_mw == {"VDD_GPU": 1962, "VDD_CPU_SOC_MSS": 5887, "VIN_SYS_5V0": 5635, "VIN": 19780}
    loaded = parse_tegrastats(THOR_LOADED)
    assert (loaded.gpu_load, loaded.gpu_mhz, loaded.cores[2]) == (87, (1574, 1574, 1574), None)


def test_the_first_of_several_figures_is_now() -> None:
    stats = parse_tegrastats(THOR_LOADED)
    assert stats.temperature_celsius == {"cpu": 58.25, "tj": 66.625, "gpu": 56.937}
    assert stats.rails_mw == {"VDD_GPU": 37939, "VIN": 124486}


@pytest.mark.parametrize(
    ("line", "watts"),
    [(ORIN_NANO, 4.91), (AGX_ORIN, 8.726), (AGX_ORIN_OFF, 7.533), (THOR, 19.78), (THOR_LOADED, 124.486), (THOR_R39, None), ("", None)],
)
def test_the_whole_board_is_told_only_where_a_rail_or_all_of_its_inputs_are(line: str, watts: float | None) -> None:
    assert watts_of_tegrastats(line) == (watts if watts is None else pytest.approx(watts))


def test_one_clock_for_all_cores() -> None:
    assert parse_tegrastats("CPU [1%,off,3%]@1190").cores == (Core(1, 1190), None, Core(3, 1190))


@pytest.mark.parametrize("line", ["RAM 1/" + "9" * 5000 + "MB", "GR3D_FREQ " + "9" * 5000 + "%", "V1 " + "9" * 5000 + "mW/"])
def test_a_number_without_end_is_none(line: str) -> None:
    assert parse_tegrastats(line).ram_mb is None and parse_tegrastats(line).rails_mw == {}


@given(st.text() | st.lists(st.sampled_from(THOR_LOADED.split() + AGX_ORIN_OFF.split())).map(" ".join))
def test_no_line_is_too_odd(line: str) -> None:
    stats = parse_tegrastats(line)
    assert all(celsius > -100 for celsius in stats.temperature_celsius.values())
    assert watts_of_tegrastats(line) == watts_of_rails(stats.rails_mw)


@given(
    cores=st.lists(st.none() | st.tuples(st.integers(0, 100), st.integers(1, 4000)), min_size=1, max_size=16),
    load=st.none() | st.integers(0, 100),
    clocks=st.lists(st.integers(0, 2000), min_size=1, max_size=4),
    zones=st.dictionaries(st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True), st.integers(-90_000, 130_000), max_size=6),
    rails=st.dictionaries(st.from_regex(r"V[A-Z0-9_]{1,9}", fullmatch=True), st.integers(-9, 200_000), max_size=5),
    more=st.booleans(),
)
def test_whatever_is_printed_is_read_back(
    cores: list[tuple[int, int] | None], load: int | None, clocks: list[int], zones: dict[str, int], rails: dict[str, int], more: bool
) -> None:
    """more: with the second and third figures of L4T 39."""
    printed = ",".join("off" if core is None else f"{core[0]}%@{core[1]}" for core in cores)
    gpu = f"{'' if load is None else f'{load}%'}@[{','.join(map(str, clocks))}]"
    hot = " ".join(f"{name}@{value / 1000:g}C{'/130C' if more else ''}" for name, value in zones.items())
    power = " ".join(f"{name} {value}mW/{value + 1}mW{'/9mW' if more else ''}" for name, value in rails.items())
    stats = parse_tegrastats(f"RAM 1/2MB (lfb 1x4MB) CPU [{printed}] EMC_FREQ 1%@2 GR3D_FREQ {gpu} VIC off APE 1 {hot} {power}")
    assert stats.cores == tuple(None if core is None else Core(*core) for core in cores)
    assert (stats.gpu_load, stats.gpu_mhz) == (load, tuple(clocks))
    assert stats.temperature_celsius == {name: pytest.approx(value / 1000, abs=1e-3) for name, value in zones.items()}
    assert stats.rails_mw == rails
