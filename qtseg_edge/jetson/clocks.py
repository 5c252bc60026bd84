"""The clocks of a Jetson and whether they are locked (`sudo jetson_clocks`), which is what steady timings need.

Jetson Linux Developer Guide, "Platform Power and Performance", "Maximizing Performance": jetson_clocks sets every minimum to the maximum of
the power mode. Its `--show` wants root and tells of the memory (EMC) too; the same of CPU and GPU is in /sys for everybody.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from qtseg_edge.board.sysfs import number

_SECONDS = 10.0
_GPU = re.compile(r"gpu(?!-nvd)|ga10b|gv11b|gb10b")  # Orin: 17000000.gpu; Thor: gpu-gpc-0, and gpu-nvd-0 for its video engines
_SHOWN = re.compile(
    r"^(\S+?):?\s+(?:Online=(\d) )?(?:Governor=\S+ )?MinFreq=(\d{1,15}) MaxFreq=(\d{1,15}) CurrentFreq=(\d{1,15})(?: FreqOverride=(\d))?",
    re.MULTILINE,
)
_NAMES = re.compile(r"cpu\d+|EMC|GPU|gpu-gpc-\d+")


@dataclass(frozen=True)
class Clock:
    """Of a CPU core, the GPU or the memory, in MHz. is_locked: it does not follow the load."""

    name: str
    min_mhz: float
    max_mhz: float
    mhz: float
    is_locked: bool


def clocks(root: Path = Path("/")) -> list[Clock]:
    """By jetson_clocks where root asks it, else by /sys; none where there is no Jetson's GPU. root: where the files lie."""
    gpus = gpu_clock_folders(root)
    if not gpus:
        return []
    if shown := parse_jetson_clocks(_shown()):
        return shown
    cores = sorted((root / "sys" / "devices" / "system" / "cpu").glob("cpu[0-9]*/cpufreq"), key=lambda path: int(path.parent.name[3:]))
    found = [_clock(path.parent.name, path, "scaling_{}_freq", 1e3) for path in cores]
    found += [_clock(path.name, path, "{}_freq", 1e6) for path in gpus]
    return [clock for clock in found if clock is not None]


def gpu_clock_folders(root: Path) -> list[Path]:
    """Of a Jetson's GPU, in /sys/class/devfreq: `cur_freq`, `min_freq`, `max_freq` in Hz."""
    return [path for path in sorted((root / "sys" / "class" / "devfreq").glob("*")) if _GPU.search(path.name)]


def parse_jetson_clocks(shown: str) -> list[Clock]:
    """shown: what `jetson_clocks --show` prints, CPU in kHz, the rest in Hz. Cores that are off and engines of other uses are left out."""
    found = []
    for name, online, low, high, now, override in _SHOWN.findall(shown):
        if online != "0" and _NAMES.fullmatch(name):
            unit = 1e3 if name.startswith("cpu") else 1e6
            found.append(Clock(name, int(low) / unit, int(high) / unit, int(now) / unit, low == high or override == "1"))
    return found


def clocks_line(found: list[Clock]) -> str:
    """Such as "locked: CPU 2202 MHz, GPU 1300 MHz" or "follow the load: CPU 730 to 1510 MHz, GPU 306 to 625 MHz"; "" of none."""
    kinds = {"CPU": "cpu", "GPU": "gpu", "memory": "emc"}
    parts = []
    for kind, prefix in kinds.items():
        own = [clock for clock in found if _kind(clock.name) == prefix]
        if own:
            low = min(clock.max_mhz if clock.is_locked else clock.min_mhz for clock in own)
            high = max(clock.max_mhz for clock in own)
            parts.append(f"{kind} {high:.0f} MHz" if low == high else f"{kind} {low:.0f} to {high:.0f} MHz")
    return f"{'locked' if are_locked(found) else 'follow the load'}: {', '.join(parts)}" if parts else ""


def are_locked(found: list[Clock]) -> bool:
    return bool(found) and all(clock.is_locked for clock in found)


def _kind(name: str) -> str:
    if name.startswith("cpu"):
        return "cpu"
    return "emc" if name == "EMC" else "gpu"


def _clock(name: str, folder: Path, pattern: str, unit: float) -> Clock | None:
    low, high, now = (number(folder / pattern.format(which)) for which in ("min", "max", "cur"))
    if low is None or high is None:
        return None  # a core that is off
    return Clock(name, low / unit, high / unit, (high if now is None else now) / unit, low == high)


def _shown() -> str:
    program = shutil.which("jetson_clocks") if os.geteuid() == 0 else None
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "--show"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
