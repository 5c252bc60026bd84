"""What this machine is, read from files and one small command. root: where the file system begins, for tests."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from qtseg_edge import __version__
from qtseg_edge.doctor.findings import Finding
from qtseg_edge.jetson import board, has_tensorrt_10, jetpack_of, l4t_release

# The instructions that half precision and int8 run faster with, under the kernel's names.
_X86_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_ARM_FEATURES = ("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve")
_GIB = 1 << 30


def machine_findings(root: Path = Path("/"), folder: Path = Path()) -> list[Finding]:
    """folder: where the free disk is looked up."""
    return [_python(), _jetpack(root), _processor(root), _memory(root), _disk(folder), _power(root)]


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
    text = _text(root / "proc" / "cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = named[1].strip() if named else board(root) or platform.processor() or platform.machine()
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    features = ", ".join(feature for feature in (*_X86_FEATURES, *_ARM_FEATURES) if feature in present)
    return Finding("CPU", "ok", f"{name}, {_cores()} cores{f': {features}' if features else ''}")


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory(root: Path) -> Finding:
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _text(root / "proc" / "meminfo"), re.MULTILINE))
    if not {"MemTotal", "MemAvailable"} <= sizes.keys():
        return Finding("memory", "none", "not shown by this system")
    total, free = (int(sizes[key]) * 1024 / _GIB for key in ("MemTotal", "MemAvailable"))
    return Finding("memory", "ok", f"{total:.1f} GiB, {free:.1f} GiB of it free")


def _disk(folder: Path) -> Finding:
    try:
        return Finding("disk", "ok", f"{shutil.disk_usage(folder).free / _GIB:.1f} GiB free in {folder.resolve()}")
    except OSError as error:
        return Finding("disk", "broken", f"{folder}: {error.strerror}")


def _power(root: Path) -> Finding:
    mode = _nvpmodel()
    if mode:
        cure = (
            ""
            if "MAXN" in mode
            else "the modes: sudo nvpmodel -p --verbose; take one: sudo nvpmodel -m NUMBER; full clocks: sudo jetson_clocks"
        )
        return Finding("power mode", "ok", mode, cure)
    governor = _text(root / "sys" / "devices" / "system" / "cpu" / "cpu0" / "cpufreq" / "scaling_governor").strip()
    if not governor:
        return Finding("power mode", "none", "not shown by this system")
    cure = "" if governor == "performance" else "steadier timings: sudo cpupower frequency-set -g performance"
    return Finding("power mode", "ok", f"CPU governor {governor}", cure)


def _nvpmodel() -> str:
    """A Jetson's power mode, such as "MAXN"; "" where there is none."""
    program = shutil.which("nvpmodel")
    if program is None:
        return ""
    try:
        done = subprocess.run([program, "-q"], capture_output=True, text=True, errors="replace", timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"NV Power Mode:\s*(\S+)", done.stdout)
    return found[1] if found else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
