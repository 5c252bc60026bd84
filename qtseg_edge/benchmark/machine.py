"""The state of the machine that figures were taken on. root: where the file system begins, for tests."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from qtseg_edge import __version__
from qtseg_edge.board.nvidia_smi import ask_nvidia_smi
from qtseg_edge.board.reader import board_reader
from qtseg_edge.board.reading import BoardReading
from qtseg_edge.doctor.machine import machine_findings
from qtseg_edge.jetson.clocks import gpu_clock_folders

_PACKAGES = (
    *("numpy", "opencv-python-headless", "opencv-python", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "onnx"),
    *("tensorrt", "tensorrt-rtx", "cuda-bindings", "pycuda"),
)
_GPU_FIELDS = {
    "name": "name",
    "driver": "driver_version",
    "performance_state": "pstate",
    "sm_mhz": "clocks.sm",
    "memory_mhz": "clocks.mem",
    "max_sm_mhz": "clocks.max.sm",
    "power_limit_w": "power.limit",
    "temperature_c": "temperature.gpu",
}
_QUIET_LOAD = 0.5  # of one core, over the last minute


@dataclass(frozen=True)
class MachineState:
    """cores: those that this process may use. governor, power_mode, clocks, jetpack: "" where there is none. mhz: of each core, now.

    load_average: over 1, 5 and 15 minutes, None where the system tells none. gpus: of nvidia-smi, or a Jetson's with its clock alone.
    clocks: whether a Jetson's are locked. board: before anything was measured, None where nothing tells.
    """

    system: str
    python: str
    cpu: str
    cores: int
    mhz: tuple[float, ...]
    governor: str
    power_mode: str
    memory: str
    jetpack: str
    load_average: tuple[float, float, float] | None
    gpus: tuple[dict[str, Any], ...]
    versions: dict[str, str]
    clocks: str = ""
    board: BoardReading | None = None

    @property
    def is_quiet(self) -> bool:
        return self.load_average is None or self.load_average[0] <= _QUIET_LOAD

    def line(self) -> str:
        """For the head of a report."""
        clock = f" at {max(self.mhz):.0f} MHz" if self.mhz else ""
        load = "not told" if self.load_average is None else f"{self.load_average[0]:.2f}"
        parts = [
            f"{self.cpu}{clock}",
            *([f"governor {self.governor}"] if self.governor else []),
            *([f"power mode {self.power_mode}"] if self.power_mode else []),
            *([f"clocks {self.clocks}"] if self.clocks else []),
            *(str(gpu["name"]) for gpu in self.gpus),
            f"load before {load}",
        ]
        return "; ".join(parts)

    def rows(self) -> list[tuple[str, str]]:
        """All of it, for people."""
        load = "" if self.load_average is None else ", ".join(f"{value:.2f}" for value in self.load_average)
        texts = {
            "system": self.system,
            "Python": self.python,
            "CPU": self.cpu,
            "CPU clock": f"{min(self.mhz):.0f} to {max(self.mhz):.0f} MHz" if self.mhz else "",
            "governor": self.governor,
            "power mode": self.power_mode,
            "clocks": self.clocks,
            "before": _board_text(self.board),
            "memory": self.memory,
            "JetPack": self.jetpack,
            "load average before": load,
            **{f"GPU {index}": _told(gpu) for index, gpu in enumerate(self.gpus)},
            "versions": _told(self.versions),
        }
        return [(name, text) for name, text in texts.items() if text]


def machine_state(root: Path = Path("/")) -> MachineState:
    """Taken before anything is started: what is started raises the load."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    found = {finding.what: finding.found for finding in machine_findings(root) if finding.state != "none"}
    power_mode = found.get("power mode", "")
    return MachineState(
        system=platform.platform(),
        python=platform.python_version(),
        cpu=found["CPU"],
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        mhz=_mhz(root),
        governor=_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        power_mode="" if power_mode.startswith("CPU governor") else power_mode,
        memory=found.get("memory", ""),
        jetpack=found.get("JetPack", ""),
        load_average=load,
        gpus=tuple(gpus_of_nvidia_smi(ask_nvidia_smi(tuple(_GPU_FIELDS.values()))) or _jetson_gpus(root)),
        versions={"qtseg-edge": __version__, **_versions()},
        clocks=found.get("clocks", ""),
        board=reader.read() if (reader := board_reader(root)) else None,
    )


def gpus_of_nvidia_smi(text: str) -> list[dict[str, Any]]:
    """A dictionary for each line of what `ask_nvidia_smi` gave for this module's fields; what a GPU does not tell is None."""
    found = []
    for line in text.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) == len(_GPU_FIELDS):
            found.append({name: _number(value) for name, value in zip(_GPU_FIELDS, values, strict=True)})
    return found


def gpu_bytes_used() -> int | None:
    """Of all GPUs, by all processes; None where no nvidia-smi tells it (a Jetson's GPU shares the memory of the CPU)."""
    used = [line.strip() for line in ask_nvidia_smi(("memory.used",)).splitlines()]
    return sum(int(mebibytes) << 20 for mebibytes in used) if used and all(text.isdigit() for text in used) else None


def _told(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items() if value is not None)


def _number(text: str) -> Any:
    """A number where it is one, None for what is not told, such as "[N/A]"."""
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return float(text) if "." in text else int(text)
    return None if text.startswith("[") else text


def _mhz(root: Path) -> tuple[float, ...]:
    """By the kernel's frequency driver or, in a virtual machine that has none, by the processor."""
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    kilohertz = [text for path in files if (text := _text(path)).isdigit()]
    if kilohertz:
        return tuple(int(text) / 1000 for text in kilohertz)
    return tuple(float(text) for text in re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", _text(root / "proc/cpuinfo"), re.MULTILINE))


def _jetson_gpus(root: Path) -> list[dict[str, Any]]:
    clocks = [(path.name, _text(path / "cur_freq")) for path in gpu_clock_folders(root)]
    return [{"name": f"GPU {name}", "sm_mhz": int(hertz) / 1e6} for name, hertz in clocks if hertz.isdigit()]


def _board_text(reading: BoardReading | None) -> str:
    """Such as "tj 52.6 °C, 7.5 W (board), not throttled"."""
    if reading is None:
        return ""
    watts = [] if reading.watts is None else [f"{reading.watts:.1f} W ({reading.power_of})"]
    throttled: list[str] = []
    if reading.throttled is not None:
        throttled = [f"throttled: {', '.join(reading.throttled)}" if reading.throttled else "not throttled"]
    return ", ".join([*([reading.hottest] if reading.hottest else []), *watts, *throttled])


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
