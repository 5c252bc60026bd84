"""Which Jetson this is, read from files: the release of its Linux (L4T), the JetPack that has it, and the board."""

from __future__ import annotations

import re
from pathlib import Path

# JetPack by the L4T release that it came with, as far as the release is told by its first numbers.
_JETPACKS: dict[tuple[int, ...], str] = {
    (35, 2, 1): "5.1",
    (35, 3, 1): "5.1.1",
    (36, 2): "6.0 DP",
    (36, 3): "6.0",
    (36, 4, 0): "6.1",
    (36, 4, 3): "6.2",
    (36, 4, 4): "6.2.1",
    (38, 2): "7.0",
    (38, 4): "7.1",
    (39, 1): "7.2",
    (39, 2, 0): "7.2",
}
_FIRST_SUPPORTED = (36, 4)  # JetPack 6.1: the first with TensorRT 10
_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")


def l4t_release(root: Path = Path("/")) -> str:
    """Such as "36.4.3"; "" where this is no Jetson. root: where the file system begins."""
    found = _RELEASE.search(_text(root / "etc" / "nv_tegra_release"))
    return f"{found[1]}.{found[2]}" if found else ""


def jetpack_of(l4t: str) -> str:
    """The JetPack of a release, such as "6.2", or "6.2.1 or later"; "" of a branch that this version does not know."""
    release = _numbers(l4t)
    known = max((known for known in _JETPACKS if known[0] == release[0] and known <= release), default=None)
    if known is None:
        return ""
    return _JETPACKS[known] if release[: len(known)] == known else f"{_JETPACKS[known]} or later"


def has_tensorrt_10(l4t: str) -> bool:
    """This release, or one after it, is what engines can be built and run on."""
    return _numbers(l4t) >= _FIRST_SUPPORTED


def board(root: Path = Path("/")) -> str:
    """Such as "NVIDIA Jetson Orin Nano Developer Kit"; "" where the firmware names none."""
    return _text(root / "proc" / "device-tree" / "model").strip("\0\n ")


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
