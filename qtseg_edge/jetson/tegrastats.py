"""One line of `tegrastats` (Jetson Linux Developer Guide, "tegrastats Utility", r36.4 to r38.4), and which rails are the whole board.

Releases differ in what they print: r36 `cpu@52.562C` and `VDD_IN 4910mW/4890mW` (now/mean), r39 `cpu@34.843C/34.843C` (now/highest) and
`VDD_GPU 4925mW/4925mW/4925mW` (now/mean/highest); `GR3D_FREQ 0%@[0,0]` on Orin, `GR3D_FREQ @[314,314,314]` on Thor, whose GPU tells no load
here. A sensor, rail or engine that is powered off is left out, `off`, or at -256 C.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LONGEST = 4000  # characters of a line that are looked at; one has about a thousand, and Python reads no number of more than 4300 digits
LOWEST_CELSIUS = -100.0  # below it a sensor is powered off; the kernel says -256

# Rails that carry everything else, the first that a board has: Thor; Orin Nano and NX; AGX Orin, which measures no single one.
_WHOLE_BOARD = (("VIN",), ("VDD_IN",), ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"))
_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB")
_CPU = re.compile(r"\bCPU \[([^\]]*)\](?:@(\d+))?")
_CORE = re.compile(r"(\d+)%(?:@(\d+))?")
_GR3D = re.compile(r"\bGR3D_FREQ (?:(\d+)%)?(?:@(?:\[([\d, ]*)\]|(\d+)))?")
_EMC = re.compile(r"\bEMC_FREQ (?:(\d+)%)?(?:@(\d+))?")
_ZONE = re.compile(r"\b([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C\b")
_RAIL = re.compile(r"\b(V\w+) (-?\d+)mW/")  # a channel that nothing is connected to is called NC


@dataclass(frozen=True)
class Core:
    """load: percent of the time that it was not idle. mhz: None where the line gives no clock."""

    load: int
    mhz: int | None


@dataclass(frozen=True)
class Tegrastats:
    """What a line does not tell is None or empty. ram_mb: used, total. cores: None for one that is off. gpu_load, emc_load: percent.
    gpu_mhz: of each graphics processing cluster, 0 while it is powered off. rails_mw: now.
    """

    ram_mb: tuple[int, int] | None
    cores: tuple[Core | None, ...]
    gpu_load: int | None
    gpu_mhz: tuple[int, ...]
    emc_load: int | None
    emc_mhz: int | None
    temperature_celsius: dict[str, float]
    rails_mw: dict[str, int]


def parse_tegrastats(line: str) -> Tegrastats:
    """Never raises: what is not understood is not told."""
    line = line[:_LONGEST]
    ram, gr3d, emc = _RAM.search(line), _GR3D.search(line), _EMC.search(line)
    zones = {name: float(celsius) for name, celsius in _ZONE.findall(line)}
    return Tegrastats(
        ram_mb=(int(ram[1]), int(ram[2])) if ram else None,
        cores=_cores(line),
        gpu_load=_number(gr3d[1]) if gr3d else None,
        gpu_mhz=tuple(int(mhz) for mhz in re.findall(r"\d+", gr3d[2] or gr3d[3] or "")) if gr3d else (),
        emc_load=_number(emc[1]) if emc else None,
        emc_mhz=_number(emc[2]) if emc else None,
        temperature_celsius={name: celsius for name, celsius in zones.items() if celsius > LOWEST_CELSIUS},
        rails_mw={name: int(milliwatts) for name, milliwatts in _RAIL.findall(line)},
    )


def watts_of_tegrastats(line: str) -> float | None:
    """What board and module draw now; None where the line has no rail that carries all of it."""
    return watts_of_rails(parse_tegrastats(line).rails_mw)


def watts_of_rails(milliwatts: Mapping[str, float]) -> float | None:
    """milliwatts: by rail. None where these are parts of the board only: on some Thors VIN is not measured."""
    for names in _WHOLE_BOARD:
        if milliwatts.keys() >= set(names):
            return sum(milliwatts[name] for name in names) / 1000
    return None


def _cores(line: str) -> tuple[Core | None, ...]:
    found = _CPU.search(line)
    if not found or not found[1].strip():
        return ()
    shared = _number(found[2])  # r32 gave one clock for all
    cores = [_CORE.search(part) for part in found[1].split(",")]
    return tuple(Core(int(core[1]), _number(core[2]) or shared) if core else None for core in cores)


def _number(text: str | None) -> int | None:
    return int(text) if text else None
