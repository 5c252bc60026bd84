"""A Jetson's temperatures, rails and throttling, from files that every user may read.

Jetson Linux Developer Guide, "Platform Power and Performance", of Orin (r36) and Thor (r38): the thermal zones; the cooling devices
`*-throttle-alert`, above 0 while software lowers clocks because of heat; the INA3221 and INA238 monitors of the rails; the counters of the
events for which the hardware lowers clocks at once (driver `soctherm_oc`). What the firmware throttles by itself above the highest software
trip point shows in no file but those of debugfs, which root alone may read.
"""

from __future__ import annotations

import re
from pathlib import Path

from qtseg_edge.board.reading import BoardReading
from qtseg_edge.board.sysfs import celsius_of, cooling_devices, hwmon_chips, number, text, thermal_zones
from qtseg_edge.jetson.tegrastats import LOWEST_CELSIUS, watts_of_rails

_ALERT = "-throttle-alert"
_EVENTS = {1: "under-voltage", 2: "average over-current", 3: "instantaneous over-current"}


class JetsonSensors:
    """Events count from here on, or from the reading before."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._zones = thermal_zones(root)
        self._alerts = {kind.removesuffix(_ALERT): path for kind, path in cooling_devices(root).items() if kind.endswith(_ALERT)}
        self._counters = _event_counters(root)
        self._rails = _rails(root)
        self._counted = self.events()

    @property
    def tells_anything(self) -> bool:
        return bool(self._zones or self._alerts or self._counters or self._rails)

    def events(self) -> dict[str, int]:
        """How often the hardware has throttled since the board started, by reason."""
        counts = {name: number(path) for name, path in self._counters.items()}
        return {name: count for name, count in counts.items() if count is not None}

    def rails_mw(self) -> dict[str, float]:
        """Milliwatts of each rail that can be read now."""
        found = {}
        for name, factors in self._rails.items():
            values = [value for path in factors if (value := number(path)) is not None]
            if len(values) == len(factors):
                # mV x mA are microwatts, as is what a chip gives that multiplies by itself
                found[name] = (values[0] * values[1] if len(values) == 2 else values[0]) / 1000
        return found

    def read(self) -> BoardReading:
        temperature = celsius_of(self._zones.items(), LOWEST_CELSIUS)
        return BoardReading(temperature, watts_of_rails(self.rails_mw()), "board", self._throttled())

    def _throttled(self) -> tuple[str, ...] | None:
        if not self._alerts and not self._counters:
            return None
        hot = [f"{name} over temperature" for name, path in self._alerts.items() if (number(path) or 0) > 0]
        before, self._counted = self._counted, self.events()
        return (*hot, *(name for name, count in self._counted.items() if count > before.get(name, count)))


def _event_counters(root: Path) -> dict[str, Path]:
    found = {}
    for chip in hwmon_chips(root, "soctherm_oc"):
        for path in sorted(chip.glob("oc*_event_cnt")):
            if known := re.fullmatch(r"oc(\d+)_event_cnt", path.name):
                found[_EVENTS.get(int(known[1]), f"over-current event {known[1]}")] = path
    return found


def _rails(root: Path) -> dict[str, tuple[Path, ...]]:
    """The files whose product are a rail's microwatts. The INA3221's other channels (`sum of shunt voltages`) have no current."""
    found: dict[str, tuple[Path, ...]] = {}
    for chip in hwmon_chips(root, "ina"):
        if (label := text(chip / "label")) and (chip / "power1_input").exists():
            found[label] = (chip / "power1_input",)
        for path in sorted(chip.glob("in*_label")):
            channel = path.name.removeprefix("in").removesuffix("_label")
            factors = (chip / f"in{channel}_input", chip / f"curr{channel}_input")
            if (label := text(path)) and all(factor.exists() for factor in factors):
                found[label] = factors
    return found
