"""Which generation of Jetson this is, by its chip: what its decoder and its packages can do depends on it, not on its JetPack."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Generation = Literal["orin", "thor"]
# In the device tree's "compatible" of every carrier board.
_CHIPS: dict[str, Generation] = {"nvidia,tegra234": "orin", "nvidia,tegra264": "thor"}


def generation_of(root: Path = Path("/")) -> Generation | None:
    """None: no Jetson of these. root: where the file system begins."""
    try:
        chips = (root / "proc" / "device-tree" / "compatible").read_text(encoding="utf-8", errors="replace").split("\0")
    except OSError:
        return None
    return next((_CHIPS[chip] for chip in chips if chip in _CHIPS), None)
