"""Connected components of one frame at the network's size, and how one of them, or several, may be hidden."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # x, y, width, height


@dataclass(frozen=True)
class Shape:
    """Pixels of one class. box: around them. pixels: (height, width) of 0 and 1 in that box. confidence: their mean probability, 0..1."""

    class_index: int
    box: Box
    pixels: Uint8
    area: int
    confidence: float


@dataclass(frozen=True)
class Components:
    """The 8-connected components of one class. window: the part of the frame that holds all of them. labels: (h, w) int32 in that window,
    0 where there is none. boxes, areas: by label, in the window; entry 0 is the background's.
    """

    class_index: int
    window: tuple[slice, slice]
    labels: NDArray[np.int32]
    boxes: list[Box]
    areas: list[int]

    def shape(self, label: int, levels: Uint8) -> Shape:
        """levels: probability of the class x 255 (H, W), of the whole frame."""
        x, y, width, height = self.boxes[label]
        inside = np.equal(self.labels[y : y + height, x : x + width], label).view(np.uint8)
        rows, columns = self.window
        x, y = x + columns.start, y + rows.start
        mean = cv2.mean(levels[y : y + height, x : x + width], inside)[0] / 255
        return Shape(self.class_index, (x, y, width, height), inside, self.areas[label], mean)


def components_of(marked: Uint8, class_index: int) -> Components | None:
    """marked: (H, W), above 0 where the class is. None where it is nowhere."""
    x, y, width, height = cv2.boundingRect(marked)
    if not width:
        return None
    window = (slice(y, y + height), slice(x, x + width))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(marked[window], connectivity=8, ltype=cv2.CV_32S)
    *boxes, areas = stats.T.tolist()
    return Components(class_index, window, labels, list(zip(*boxes, strict=True)), areas)  # type: ignore[arg-type]


def common_pixels(one: Shape, other: Shape) -> int:
    (ax, ay, aw, ah), (bx, by, bw, bh) = one.box, other.box
    left, right, top, bottom = max(ax, bx), min(ax + aw, bx + bw), max(ay, by), min(ay + ah, by + bh)
    if left >= right or top >= bottom:
        return 0
    a = one.pixels[top - ay : bottom - ay, left - ax : right - ax]
    b = other.pixels[top - by : bottom - by, left - bx : right - bx]
    return cv2.countNonZero(cv2.bitwise_and(a, b))


def together(shapes: list[Shape]) -> Shape:
    """Parts of one thing, which do not overlap, as one shape."""
    if len(shapes) == 1:
        return shapes[0]
    left, top = (min(shape.box[axis] for shape in shapes) for axis in (0, 1))
    right, bottom = (max(shape.box[axis] + shape.box[axis + 2] for shape in shapes) for axis in (0, 1))
    pixels = np.zeros((bottom - top, right - left), np.uint8)
    for shape in shapes:
        x, y, width, height = shape.box
        pixels[y - top : y - top + height, x - left : x - left + width] |= shape.pixels
    area = sum(shape.area for shape in shapes)
    confidence = sum(shape.confidence * shape.area for shape in shapes) / area
    return Shape(shapes[0].class_index, (left, top, right - left, bottom - top), pixels, area, confidence)
