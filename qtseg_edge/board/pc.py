"""The CPU's temperature and throttling on a PC, and what its GPU tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtseg_edge.board.nvidia_smi import GpuReading
from qtseg_edge.board.reading import BoardReading
from qtseg_edge.board.sysfs import celsius_of, hwmon_chips, number, thermal_zones

_CPU_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")  # of Intel, AMD, AMD, Arm
_CPU_ZONE = "x86_pkg_temp"  # where there is no such chip
_LOWEST_CELSIUS = -100.0


class PcSensors:
    """gpu: asked at every reading; None where there is none. Throttling of the CPU counts from here on, or from the reading before."""

    def __init__(self, root: Path = Path("/"), gpu: Callable[[], GpuReading | None] | None = None) -> None:
        files = [path for chip in hwmon_chips(root, *_CPU_CHIPS) for path in sorted(chip.glob("temp*_input"))]
        zone = thermal_zones(root).get(_CPU_ZONE)
        self._cpu = files or ([zone] if zone is not None else [])
        # Of Intel processors, by the kernel's driver therm_throt: how often the package got too hot.
        self._counters = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/package_throttle_count"))
        self._gpu = gpu
        self._counted = self._count()

    @property
    def tells_anything(self) -> bool:
        return bool(self._cpu or self._counters or self._gpu)

    def read(self) -> BoardReading:
        gpu = self._gpu() if self._gpu else None
        cores = celsius_of(((str(path), path) for path in self._cpu), _LOWEST_CELSIUS)
        temperature = {"cpu": max(cores.values())} if cores else {}
        if gpu is not None and gpu.celsius is not None:
            temperature["gpu"] = gpu.celsius
        return BoardReading(temperature, gpu.watts if gpu else None, "GPU", self._throttled(gpu))

    def _throttled(self, gpu: GpuReading | None) -> tuple[str, ...] | None:
        of_gpu = gpu.throttled if gpu else None
        if not self._counters:
            return of_gpu
        before, self._counted = self._counted, self._count()
        return (*(["CPU over temperature"] if self._counted > before else []), *(of_gpu or ()))

    def _count(self) -> int:
        return sum(number(path) or 0 for path in self._counters)
