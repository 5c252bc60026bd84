"""Where an endoscope's picture is in a frame: a circle, an octagon or a rounded square on black, with text and small pictures around it.

A frame is looked at 320 pixels wide. What is brighter than the black at its edges is content, once strokes as thin as letters are gone.
That tells what is surely content, and so where a crop has to grow. That the rest is border, and not a dark part of the scene, needs more:
the content's outline must be convex, even, and as sharp as only a mask is (docs/decisions/0017-roi.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]
Float = NDArray[np.float32]
Corners = NDArray[np.integer[Any] | np.floating[Any]]  # what OpenCV says it returns; whole numbers here
Box: TypeAlias = tuple[int, int, int, int]  # x, y, width, height
_LONGEST_SIDE = 320  # pixels looked at; those below are of this size
_BLACKEST = 48  # levels of the brightest colour: video black is 0 or 16, and cameras add to it
_MARGIN = 12  # levels above black that are no noise
_FLAT_STANDARD_DEVIATION = 2.0  # levels; below it the frame shows nothing
_STROKE = 9  # narrower is a letter, wider may be content
_BESIDE = 0.2  # of the largest piece; a smaller one is a picture beside it
_LEAST_AREA = 0.15  # of the frame; what is smaller is something bright in the dark
_POINTS = 96  # of the outline
_REACH = 2  # pixels to either side of the outline
_SHARP_OF_ALL, _SHARP_OF_SIDE = 0.6, 0.5  # of the points
_EVEN = 0.82  # overlap of the outline with its mirror image, by their union
_SNAP = 2  # pixels: a border as narrow as this is no border


@dataclass(frozen=True)
class Content:
    """box: around what is surely content, in pixels of the frame, rather too large than too small.

    is_outlined: the rest is surely border; always so where the box is the whole frame.
    """

    box: Box
    is_outlined: bool


def find_content(rgb: Uint8) -> Content | None:
    """rgb: (h, w, 3). None where nothing can be seen: one colour, or all of it dark."""
    height, width = rgb.shape[:2]
    step = -(-max(height, width) // _LONGEST_SIDE)
    small = _brightest(rgb, step)
    if cv2.meanStdDev(small)[1][0, 0] < _FLAT_STANDARD_DEVIATION:
        return None
    edges = np.concatenate((small[:2].ravel(), small[-2:].ravel(), small[:, :2].ravel(), small[:, -2:].ravel()))
    black = int(np.percentile(edges, 15))  # of every border, as it is, a good part is at the edges
    if black > _BLACKEST:
        return Content((0, 0, width, height), True)
    points = _content_points(small, black + _MARGIN)
    if points is None:
        return None
    x, y, w, h = cv2.boundingRect(points)
    left, right = _span(x, x + w, small.shape[1], width)
    top, bottom = _span(y, y + h, small.shape[0], height)
    box = (left, top, right - left, bottom - top)
    is_whole = box == (0, 0, width, height)
    return Content(box, is_whole or _is_outlined(cv2.convexHull(points)[:, 0], small, black))


def _brightest(rgb: Uint8, step: int) -> Uint8:
    """The brightest of the three colours, because dim tissue is red, at one `step`-th of the size."""
    rows = rgb[min(step, len(rgb)) // 2 :: step]
    small = cv2.resize(rows, (-(-rgb.shape[1] // step), len(rows)), interpolation=cv2.INTER_LINEAR)
    red, green, blue = cv2.split(small)
    return cv2.medianBlur(cv2.max(cv2.max(red, green), blue), 3)  # type: ignore[return-value]


def _content_points(small: Uint8, above: int) -> Corners | None:
    """(n, 1, 2): x and y of the outlines of the largest piece and of those that may be parts of it."""
    bright = cv2.threshold(small, above, 1, cv2.THRESH_BINARY)[1]
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((_STROKE, _STROKE), np.uint8))
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    areas = [cv2.contourArea(outline) for outline in outlines]
    kept = [outline for outline, area in zip(outlines, areas, strict=True) if area >= _BESIDE * max(areas)]
    return np.concatenate(kept) if kept else None


def _span(first: int, last: int, looked_at: int, size: int) -> tuple[int, int]:
    """From `looked_at` pixels to the frame's `size`, with the pixel that is only partly content, and up to the edge where that is near."""
    first = 0 if first <= _SNAP else first - 1
    last = looked_at if last >= looked_at - _SNAP else last + 1
    return first * size // looked_at, -(-last * size // looked_at)


def _is_outlined(hull: Corners, small: Uint8, black: int) -> bool:
    """hull: (n, 2) x and y of the convex outline, clockwise."""
    if cv2.contourArea(hull) < _LEAST_AREA * small.size or not _is_even(hull, small.shape):
        return False
    at, outwards = _walked(hull)
    inner, outer = np.rint(at - _REACH * outwards).astype(int), np.rint(at + _REACH * outwards).astype(int)
    limit = np.array(small.shape[::-1])
    is_open = ((outer < 0) | (outer >= limit)).any(axis=1)  # there the frame's edge cuts it off
    inside, outside = (small[np.clip(y, 0, limit[1] - 1), np.clip(x, 0, limit[0] - 1)].astype(int) for x, y in (inner.T, outer.T))
    is_sharp = (inside >= black + 2 * _MARGIN) & (outside <= black + _MARGIN)
    sides = [is_sharp[side & ~is_open] for side in _sides(outwards)]
    return _mostly(is_sharp[~is_open], _SHARP_OF_ALL) and all(_mostly(side, _SHARP_OF_SIDE) for side in sides)


def _walked(hull: Corners) -> tuple[Float, Float]:
    """_POINTS points at equal distances along the outline, and the directions that lead straight out of it; (_POINTS, 2) each."""
    corners = hull.astype(np.float32)
    along = np.roll(corners, -1, axis=0) - corners
    lengths = np.hypot(*along.T)
    ends = np.cumsum(lengths)
    walked = (np.arange(_POINTS) + 0.5) * (ends[-1] / _POINTS)
    edge = np.minimum(np.searchsorted(ends, walked), len(ends) - 1)
    unit = along[edge] / lengths[edge, None]
    at = corners[edge] + unit * (walked - ends[edge] + lengths[edge])[:, None]
    return at.astype(np.float32), np.stack((unit[:, 1], -unit[:, 0]), axis=1)


def _sides(outwards: Float) -> list[NDArray[np.bool_]]:
    x, y = outwards.T
    level = abs(x) >= abs(y)
    return [level & (x < 0), level & (x > 0), ~level & (y < 0), ~level & (y > 0)]


def _mostly(flags: NDArray[np.bool_], share: float) -> bool:
    return len(flags) == 0 or bool(flags.mean() >= share)


def _is_even(hull: Corners, shape: tuple[int, ...]) -> bool:
    """Whether it is its own mirror image, as every mask is, but for the direction in which the frame cuts off one end of it."""
    x, y, w, h = cv2.boundingRect(hull)
    filled = np.zeros((h, w), np.uint8)
    cv2.fillConvexPoly(filled, hull - (x, y), 1)
    ends = (x <= _SNAP, x + w >= shape[1] - _SNAP), (y <= _SNAP, y + h >= shape[0] - _SNAP)
    mirrored = [other for other, (first, last) in zip((filled[:, ::-1], filled[::-1]), ends, strict=True) if first == last]
    return bool(mirrored) and all(np.count_nonzero(filled & other) >= _EVEN * np.count_nonzero(filled | other) for other in mirrored)
