"""Labelled sequences whose every number can be told by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from qtseg_edge.runtime import Backend
from qtseg_edge.sequences.evaluation import SequenceEvaluation, evaluate_sequence
from qtseg_edge.sequences.labelled import LabelledSequence
from tests.labelled import SIZE_HW, Bool, Uint8, as_mask, box, fake, red_where


@dataclass
class Scene:
    """What is there and what the fake backend marks, by frame. size_hw: of the frames."""

    frames: int
    size_hw: tuple[int, int] = SIZE_HW
    labels: dict[int, Bool] = field(default_factory=dict)
    seen: dict[int, Bool] = field(default_factory=dict)

    def label(self, place: tuple[int, int, int, int], *indices: int) -> Scene:
        """place: top, left, bottom, right."""
        return self._add(self.labels, place, indices)

    def see(self, place: tuple[int, int, int, int], *indices: int) -> Scene:
        return self._add(self.seen, place, indices)

    def rgb(self) -> list[Uint8]:
        return [red_where(self.seen.get(index, self._nothing())) for index in range(self.frames)]

    def masks(self) -> list[Uint8]:
        return [as_mask(self.labels.get(index, self._nothing())) for index in range(self.frames)]

    def write(self, folder: Path, first: int = 0) -> tuple[Path, Path]:
        """The folders of frames and of masks. Names without leading zeros: their order is that of the numbers."""
        for name, pictures in (("frames", self.rgb()), ("masks", self.masks())):
            (folder / name).mkdir(parents=True)
            for index, picture in enumerate(pictures, first):
                pixels = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
                cv2.imwrite(str(folder / name / f"{index}.png"), pixels)
        return folder / "frames", folder / "masks"

    def evaluated(self, folder: Path, fps: float = 10, backend: Backend | None = None) -> SequenceEvaluation:
        return evaluate_sequence(backend or fake(self.size_hw), LabelledSequence(*self.write(folder), fps))

    def _add(self, to: dict[int, Bool], place: tuple[int, int, int, int], indices: tuple[int, ...]) -> Scene:
        for index in indices:
            to[index] = to.get(index, self._nothing()) | box(*place, self.size_hw)
        return self

    def _nothing(self) -> Bool:
        return np.zeros(self.size_hw, bool)


LESION, OTHER, FLASH, ALARM = (10, 10, 30, 30), (5, 60, 17, 72), (40, 60, 50, 70), (40, 10, 55, 25)


def story(size_hw: tuple[int, int] = SIZE_HW) -> Scene:
    """Three seconds at 10 frames per second.

    frame   0         1         2
            012345678901234567890123456789
    LESION  .....LLxxxxLxxx...............   labelled, seen where x
    OTHER   ........................LLLLLL   labelled, never seen
    FLASH   ..x.........x.......x.........   seen, not there
    ALARM   ......................xxxxx...   seen, not there
    """
    scene = Scene(30, size_hw).label(LESION, *range(5, 15)).label(OTHER, *range(24, 30))
    return scene.see(LESION, 7, 8, 9, 10, 12, 13, 14).see(FLASH, 2, 12, 20).see(ALARM, *range(22, 27))
