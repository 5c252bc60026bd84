"""Ground truth followed through the frames: one lesion is one appearance, from the frame it comes into view to the one it leaves in."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.runtime.regions import where_class
from qtseg_edge.runtime.temporal.regions import Shape, common_pixels, components_of, together

Uint8 = NDArray[np.uint8]
LINK_IOU = 0.1  # between two frames; below it a region is another lesion, as after a change of scene
_PART = 0.5  # of a region that lay where a lesion was that another region goes on with: then it is a part of it


@dataclass(eq=False)
class Lesion:
    """number: from 1, as they appear. indices, times: of the frames that show it, one after the other; times in seconds."""

    number: int
    class_index: int
    indices: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


class LesionFollower:
    """Of one sequence. A region is the lesion of the frame before that it overlaps by LINK_IOU, or a part of one; otherwise a new one."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._before: dict[Lesion, Shape] = {}
        self.lesions: list[Lesion] = []

    def update(self, label: Uint8, index: int, time_s: float) -> dict[Lesion, Shape]:
        """label: class indices (H, W) at the network's size. Returns where each lesion of this frame is."""
        regions = [region for class_index in range(1, self._classes) for region in _regions(label, class_index)]
        parts: dict[Lesion, list[Shape]] = {}
        for region in sorted(regions, key=lambda region: -region.area):
            lesion = self._linked(region, parts)
            if lesion is None:
                lesion = Lesion(len(self.lesions) + 1, region.class_index)
                self.lesions.append(lesion)
            parts.setdefault(lesion, []).append(region)
        for lesion in parts:
            lesion.indices.append(index)
            lesion.times.append(time_s)
        self._before = {lesion: together(shapes) for lesion, shapes in parts.items()}
        return self._before

    def _linked(self, region: Shape, taken: dict[Lesion, list[Shape]]) -> Lesion | None:
        """The largest regions choose first, so what links to a lesion that is taken is a part of it."""
        fits = [
            (common_pixels(region, shape), -lesion.number, lesion, shape.area)
            for lesion, shape in self._before.items()
            if lesion.class_index == region.class_index
        ]
        for common, _, lesion, area in sorted(fits, key=lambda fit: fit[:2], reverse=True):
            least = _PART * region.area if lesion in taken else LINK_IOU * (region.area + area - common)
            if common >= least:
                return lesion
        return None


def _regions(label: Uint8, class_index: int) -> list[Shape]:
    marked = where_class(label, class_index)
    found = components_of(marked, class_index)
    return [] if found is None else [found.shape(number, marked * 255) for number in range(1, len(found.areas))]
