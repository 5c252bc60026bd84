"""What this machine is and how it does, read from files and small commands. root: where the file system begins, for tests."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path

from qtseg_edge import __version__
from qtseg_edge.board.nvidia_smi import read_gpu
from qtseg_edge.board.reader import board_reader, is_jetson
from qtseg_edge.board.reading import BoardReading
from qtseg_edge.board.sysfs import text
from qtseg_edge.doctor.findings import Finding
from qtseg_edge.jetson import board, has_tensorrt_10, jetpack_of, l4t_release
from qtseg_edge.jetson.clocks import are_locked, clocks, clocks_line
from qtseg_edge.jetson.power_mode import full_power_mode, power_mode, power_modes
from qtseg_edge.jetson.sensors import JetsonSensors

# The instructions that half precision and int8 run faster with, under the kernel's names.
_X86_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_ARM_FEATURES = ("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve")
_GIB = 1 << 30


def machine_findings(root: Path = Path("/"), folder: Path = Path()) -> list[Finding]:
    """folder: where the free disk is looked up."""
    whole = [_python(), _jetpack(root), _processor(root), _memory(root), _disk(folder), _power_mode(root), _clocks(root)]
    return [*whole, *_board(root)]


def _python() -> Finding:
    found = f"{platform.python_version()}, {platform.system()} {platform.machine()}, {sys.executable}"
    return Finding("Python", "ok", f"{found}, qtseg-edge {__version__}")


def _jetpack(root: Path) -> Finding:
    l4t = l4t_release(root)
    if not l4t:
        return Finding("JetPack", "none", "not a Jetson")
    known = jetpack_of(l4t) or "not known to this version"
    found = f"{known} (L4T {l4t}){f', {name}' if (name := board(root)) else ''}"
    if has_tensorrt_10(l4t):
        return Finding("JetPack", "ok", found)
    return Finding("JetPack", "broken", found, "its TensorRT is older than 10.3: install JetPack 6.1 or later")


def _processor(root: Path) -> Finding:
    shown = text(root / "proc" / "cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", shown, re.MULTILINE)
    name = named[1].strip() if named else board(root) or platform.processor() or platform.machine()
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", shown, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    features = ", ".join(feature for feature in (*_X86_FEATURES, *_ARM_FEATURES) if feature in present)
    return Finding("CPU", "ok", f"{name}, {_cores()} cores{f': {features}' if features else ''}")


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory(root: Path) -> Finding:
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", text(root / "proc" / "meminfo"), re.MULTILINE))
    if not {"MemTotal", "MemAvailable"} <= sizes.keys():
        return Finding("memory", "none", "not shown by this system")
    total, free = (int(sizes[key]) * 1024 / _GIB for key in ("MemTotal", "MemAvailable"))
    return Finding("memory", "ok", f"{total:.1f} GiB, {free:.1f} GiB of it free")


def _disk(folder: Path) -> Finding:
    try:
        return Finding("disk", "ok", f"{shutil.disk_usage(folder).free / _GIB:.1f} GiB free in {folder.resolve()}")
    except OSError as error:
        return Finding("disk", "broken", f"{folder}: {error.strerror}")


def _power_mode(root: Path) -> Finding:
    mode = power_mode(root)
    if mode is not None:
        modes = power_modes(root)
        full = full_power_mode(modes)
        others = ", ".join(f"{other.number} ({other.name})" for other in modes if other != mode)
        cure = f"this board also has {others}; take one: sudo nvpmodel -m NUMBER" if others else "take another: sudo nvpmodel -m NUMBER"
        is_full = mode == full or (full is None and mode.name.startswith("MAXN"))
        return Finding("power mode", "ok", str(mode), "" if is_full else cure)
    governor = text(root / "sys" / "devices" / "system" / "cpu" / "cpu0" / "cpufreq" / "scaling_governor")
    if not governor:
        return Finding("power mode", "none", "not shown by this system")
    cure = "" if governor == "performance" else "steadier timings: sudo cpupower frequency-set -g performance"
    return Finding("power mode", "ok", f"CPU governor {governor}", cure)


def _clocks(root: Path) -> Finding:
    found = clocks(root)
    if not found:
        return Finding("clocks", "none", "of a Jetson only")
    return Finding("clocks", "ok", clocks_line(found), "" if are_locked(found) else "steadier timings: sudo jetson_clocks")


def _board(root: Path) -> list[Finding]:
    reader = board_reader(root, read_gpu if shutil.which("nvidia-smi") else None)
    if reader is None:
        return [Finding(what, "none", "not shown by this system") for what in ("temperature", "power draw", "throttling")]
    reading = reader.read()
    zones = ", ".join(f"{zone} {celsius:.1f}" for zone, celsius in reading.temperature_celsius.items())
    watts = "" if reading.watts is None else f"{reading.watts:.1f} W, {reading.power_of}"
    return [
        Finding("temperature", "ok", f"{zones} \N{DEGREE SIGN}C") if zones else Finding("temperature", "none", "not shown by this system"),
        Finding("power draw", "ok", watts) if watts else Finding("power draw", "none", "not shown by this system"),
        _throttling(root, reading),
    ]


def _throttling(root: Path, reading: BoardReading) -> Finding:
    if reading.throttled is None:
        return Finding("throttling", "none", "not shown by this system")
    events = {name: count for name, count in JetsonSensors(root).events().items() if count} if is_jetson(root) else {}
    since = f"; since the start {', '.join(f'{count} x {name}' for name, count in events.items())}" if events else ""
    if reading.throttled:
        cure = "improve cooling or power supply, or take a lower power mode"
        return Finding("throttling", "broken", f"{', '.join(reading.throttled)}{since}", cure)
    cure = "events under full load are expected; if there are many, a stronger power supply or a lower power mode" if events else ""
    return Finding("throttling", "ok", f"not now{since}", cure)
