"""What a view shows where nothing has come for a while."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.runtime.overlay import Overlay
from qtseg_edge.runtime.results import Result


class NoSignalCard:
    """Remembers what the last picture looked like; not the picture, which must not be shown again."""

    def __init__(self) -> None:
        self._overlay: Overlay | None = None
        self._size_hw = (0, 0)
        self._seen_at = 0.0

    def seen(self, result: Result) -> None:
        self._overlay = result.overlay
        self._size_hw = (result.frame.rgb.shape[0], result.frame.rgb.shape[1])
        self._seen_at = time.monotonic()

    def picture(self) -> NDArray[np.uint8] | None:
        """RGB (h, w, 3) of the last result's size; None before the first."""
        if self._overlay is None:
            return None
        silent = time.monotonic() - self._seen_at
        return self._overlay.no_signal(self._size_hw, f"nothing for {silent:.0f} s  research use only")
