"""What is seen of a frame before it is chosen: where its content is, what it looks like, and why it may be useless.

Endoscopes show a circle or an octagon on black, so everything is measured on the content alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.calibration.burnt_in import LONGEST_SIDE, has_burnt_in

Uint8 = NDArray[np.uint8]
Fault = Literal["flat", "noise", "dark", "overexposed", "blurred"]
FAULTS: tuple[Fault, ...] = ("flat", "noise", "dark", "overexposed", "blurred")
_SMALL_SIDE = 256  # pixels of the longest side in which light and sharpness are judged: about what the network sees
_GRID, _GRADIENT_GRID, _GRADIENT_WEIGHT = 12, 4, 3.0
_BORDER_LEVEL = 20  # JPEG leaves this much on black
_LEAST_CONTENT = 0.2  # of the frame; less is no field of view but something bright on black, as cells are
_FLAT_DEVIATION = 2.0  # levels, as in the segmenter: such a frame is never given to the network
_EVERY = 4  # rows and columns: enough of them to tell noise by
_NOISE_CORRELATION = 0.5  # of neighbouring pixels; pictures have 0.9 and more, random values 0
_DARK_LEVEL, _WHITE_LEVEL, _WHITE_SHARE = 24, 250, 0.5
_ROUNDING = 20 / 12  # variance of the Laplacian of what rounding to whole levels adds
_SHARPNESS = 0.004  # variance of the Laplacian by that of the picture


@dataclass(frozen=True)
class Look:
    """feature: what distances between frames are taken of, float32. brightness, saturation: means over the content, 0 to 1.

    fault: why the frame teaches nothing, None where it does. burnt_in: text or a position box was found.
    """

    feature: NDArray[np.float32]
    brightness: float
    saturation: float
    fault: Fault | None
    burnt_in: bool


def look_at(rgb: Uint8) -> Look:
    """rgb: (h, w, 3), at its own size."""
    picture, small = _shrunk(rgb, LONGEST_SIDE), _shrunk(rgb, _SMALL_SIDE)
    content = content_area(small)
    hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)[content]
    fault = noise_or_flat(rgb) or _light_fault(small, content)
    at_picture = cv2.resize(content.view(np.uint8), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
    return Look(
        _feature(small, content), float(hsv[:, 2].mean() / 255), float(hsv[:, 1].mean() / 255), fault, has_burnt_in(picture, at_picture)
    )


def noise_or_flat(rgb: Uint8) -> Fault | None:
    """What no picture of anything is: one colour, or random values. Judged at full size, where noise has not been averaged away."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if float(cv2.meanStdDev(rgb)[1].max()) < _FLAT_DEVIATION:
        return "flat"
    rows, columns = grey[::_EVERY].astype(np.float32), grey[:, ::_EVERY].astype(np.float32)
    neighbours = max(_correlation(rows[:, 1:], rows[:, :-1]), _correlation(columns[1:], columns[:-1]))
    return "noise" if neighbours < _NOISE_CORRELATION else None


def content_area(rgb: Uint8) -> NDArray[np.bool_]:
    """(h, w): True on the largest bright region, its holes filled; everywhere where that is no field of view."""
    red, green, blue = cv2.split(rgb)
    bright = (cv2.max(cv2.max(red, green), blue) > _BORDER_LEVEL).view(np.uint8)
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))  # letters in the border go
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    area = np.zeros(rgb.shape[:2], np.uint8)
    if outlines:
        cv2.drawContours(area, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    return area.astype(bool) if area.mean() >= _LEAST_CONTENT else np.ones(area.shape, bool)


def _light_fault(small: Uint8, content: NDArray[np.bool_]) -> Fault | None:
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    levels = grey[content]
    if np.percentile(levels, 99.5) < _DARK_LEVEL:
        return "dark"
    if (levels >= _WHITE_LEVEL).mean() > _WHITE_SHARE:
        return "overexposed"
    # The border's edge is sharp whatever the lens does.
    inner = cv2.erode(content.view(np.uint8), np.ones((9, 9), np.uint8), borderValue=1).astype(bool)
    inner = inner if inner.any() else content
    edges = float(cv2.Laplacian(grey, cv2.CV_32F)[inner].var()) - _ROUNDING
    return "blurred" if edges < _SHARPNESS * float(grey[inner].var()) else None


def _feature(small: Uint8, content: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Colours on a coarse grid over the content and how much happens in each part of it; distances are about 0 to 0.5.

    Square roots of the colours: dark pictures, as of fluorescent cells, differ as much as bright ones do.
    """
    rows, columns = np.flatnonzero(content.any(axis=1)), np.flatnonzero(content.any(axis=0))
    cut = small[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    colours = np.sqrt(cv2.resize(cut, (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float32) / 255)  # (12, 12, 3)
    grey = cv2.cvtColor(cut, cv2.COLOR_RGB2GRAY)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.125), cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.125))
    slopes = cv2.resize(slope, (_GRADIENT_GRID, _GRADIENT_GRID), interpolation=cv2.INTER_AREA) * _GRADIENT_WEIGHT / 255  # (4, 4)
    parts = (colours.ravel() / np.sqrt(colours.size), slopes.ravel() / np.sqrt(slopes.size))
    return np.concatenate(parts).astype(np.float32)


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """1.0 where one of them does not vary."""
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first * first).mean() * (second * second).mean()))
    return float((first * second).mean()) / scale if scale > 0 else 1.0


def _shrunk(rgb: Uint8, longest: int) -> Uint8:
    scale = longest / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size_wh = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
    return cv2.resize(rgb, size_wh, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
