"""The mask on the picture: tint, outline and a small status line."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import UsageError
from qtseg_edge.runtime.regions import contours_of, where_class

Uint8 = NDArray[np.uint8]
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_NO_SIGNAL, _WARNING_RGB = "NO SIGNAL", (255, 200, 60)


class Overlay:
    """colours_rgb: one per class, background first. alpha: opacity of the tint, 0..1; the outline is always opaque."""

    def __init__(self, colours_rgb: tuple[tuple[int, int, int], ...], alpha: float) -> None:
        if not 0.0 <= alpha <= 1.0:
            raise UsageError(f"--alpha: wanted 0 to 1, got {alpha}")
        self._colours = colours_rgb
        self._alpha = alpha

    def draw(self, rgb: Uint8, mask: Uint8, status: str) -> Uint8:
        """rgb (h, w, 3), mask (h, w) -> a new picture (h, w, 3)."""
        picture = rgb.copy()
        thickness = max(1, round(min(mask.shape) / 300))
        for class_index, colour in enumerate(self._colours):
            if class_index == 0:
                continue
            contours = contours_of(mask, class_index)
            if contours:
                self._tint(picture, mask, class_index, colour, cv2.boundingRect(np.concatenate(contours)))
                cv2.drawContours(picture, contours, -1, colour, thickness, cv2.LINE_AA)
        _write_status(picture, status)
        return picture

    def no_signal(self, size_hw: tuple[int, int], status: str) -> Uint8:
        """What is shown (h, w, 3) instead of a picture, and instead of an old mask."""
        height, width = size_hw
        picture = np.zeros((height, width, 3), np.uint8)
        (text_w, text_h), _ = cv2.getTextSize(_NO_SIGNAL, _FONT, 1.0, 2)
        scale = min(0.6 * width / text_w, 0.25 * height / text_h)
        place = (round((width - scale * text_w) / 2), round((height + scale * text_h) / 2))
        cv2.putText(picture, _NO_SIGNAL, place, _FONT, scale, _WARNING_RGB, max(1, round(2 * scale)), cv2.LINE_AA)
        _write_status(picture, status)
        return picture

    def _tint(self, picture: Uint8, mask: Uint8, class_index: int, colour: tuple[int, int, int], box: Sequence[int]) -> None:
        x, y, width, height = box
        window = (slice(y, y + height), slice(x, x + width))
        part = picture[window]
        blended = cv2.addWeighted(part, 1 - self._alpha, np.full_like(part, colour), self._alpha, 0)
        cv2.copyTo(blended, where_class(mask[window], class_index), part)


def _write_status(picture: Uint8, status: str) -> None:
    """At the lower left, on a dark plate so that it reads on any picture; left out where it would not fit."""
    height, width = picture.shape[:2]
    scale = max(0.35, min(height, width) / 1100)
    (text_w, text_h), base = cv2.getTextSize(status, _FONT, scale, 1)
    margin = max(3, text_h // 2)
    plate_w, plate_h = text_w + 2 * margin, text_h + base + 2 * margin
    if plate_w > width or plate_h > height // 2:
        return
    plate = picture[height - plate_h :, :plate_w]
    plate //= 3
    cv2.putText(picture, status, (margin, height - margin - base), _FONT, scale, (240, 240, 240), 1, cv2.LINE_AA)
