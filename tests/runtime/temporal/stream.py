"""A stream of masks through the temporal filter."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.runtime.backend import Masks
from qtseg_edge.runtime.segmenter import Prepared, Segmenter
from qtseg_edge.runtime.temporal.events import Event
from qtseg_edge.runtime.temporal.filter import Filtered, TemporalFilter
from tests.labelled import Answers
from tests.runtime.stand_ins import frame_of

Uint8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]
SIZE_HW = (64, 96)
CUT = 128


def nothing() -> Bool:
    return np.zeros(SIZE_HW, bool)


def box(top: int, left: int, height: int = 12, width: int = 12) -> Bool:
    marked = nothing()
    marked[top : top + height, left : left + width] = True
    return marked


def masks_of(marked: Bool, confidence: int = 200) -> Masks:
    return Masks(marked.astype(np.uint8)[None], np.where(marked, confidence, 250).astype(np.uint8)[None])


class Stream:
    """Feeds a filter frame by frame, 25 a second; frames have the network's size unless said otherwise."""

    def __init__(self, classes: int = 2, cut: int = CUT, hysteresis: bool = True, frame_hw: tuple[int, int] = SIZE_HW) -> None:
        self.filter = TemporalFilter(classes, cut, hysteresis)
        self.segmenter = Segmenter(Answers(nothing()))
        self.index = 0
        self.ended: list[Event] = []
        self.events: tuple[Event, ...] = ()
        self.frame_hw = frame_hw

    def prepared(self) -> Prepared:
        rows = np.linspace(20, 200, self.frame_hw[0]).astype(np.uint8)  # a picture of one colour would be no picture
        return self.segmenter.prepare(np.broadcast_to(rows[:, None, None], (*self.frame_hw, 3)).copy())

    def feed(self, masks: Masks | None, *, signal: bool = True, source: str = "clip.mp4") -> Filtered:
        frame = frame_of(np.zeros((*self.frame_hw, 3), np.uint8), self.index, time_s=Fraction(self.index, 25), source=source)
        filtered = self.filter.update(masks, self.prepared(), replace(frame, has_signal=signal))
        self.index += 1
        self.events = filtered.events
        self.ended += [event for event in filtered.events if event.ended_s is not None]
        return filtered

    def show(self, marked: Bool, confidence: int = 200) -> Bool:
        """What of `marked` the filter lets through, at the network's size."""
        masks = self.feed(masks_of(marked, confidence)).masks
        assert masks is not None
        return foreground(masks)[0] >= CUT


def foreground(masks: Masks) -> Uint8:
    return np.where(masks.mask > 0, masks.confidence, 255 - masks.confidence)
