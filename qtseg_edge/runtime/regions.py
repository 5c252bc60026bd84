"""Connected components of a mask: what a report says about a frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Region:
    """One connected component (8 neighbours) of one class.

    area: pixels. box: x, y, width, height. contour: outer outline, (P, 2) int32 of x, y, simplified where it is straight.
    confidence: mean probability of the class over its pixels, 0..1.
    """

    class_index: int
    area: int
    box: tuple[int, int, int, int]
    contour: NDArray[np.int32]
    confidence: float


def regions_of(mask: Uint8, confidence: Uint8) -> list[Region]:
    """mask and confidence (h, w) -> the components of every class above 0, largest first."""
    found = [region for class_index in _classes_in(mask) for region in _of_class(mask, confidence, class_index)]
    return sorted(found, key=lambda region: region.area, reverse=True)


def contours_of(mask: Uint8, class_index: int) -> list[NDArray[np.int32]]:
    """Outer and inner outlines of a class."""
    contours, _ = cv2.findContours(where_class(mask, class_index), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return list(contours)  # type: ignore[arg-type]


def _of_class(mask: Uint8, confidence: Uint8, class_index: int) -> list[Region]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(where_class(mask, class_index), connectivity=8)
    regions = []
    for label in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[label])
        window = (slice(y, y + height), slice(x, x + width))
        inside = (labels[window] == label).astype(np.uint8)
        contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
        mean = cv2.mean(np.ascontiguousarray(confidence[window]), inside)[0] / 255
        regions.append(Region(class_index, area, (x, y, width, height), contours[0].reshape(-1, 2).astype(np.int32), mean))
    return regions


def _classes_in(mask: Uint8) -> list[int]:
    counts = np.bincount(mask.ravel(), minlength=2)
    return [int(index) for index in counts.nonzero()[0] if index > 0]


def where_class(mask: Uint8, class_index: int) -> Uint8:
    """1 where the mask has that class, 0 elsewhere."""
    return np.equal(mask, class_index).view(np.uint8)
