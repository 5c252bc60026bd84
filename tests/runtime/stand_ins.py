"""Sources and sinks that fail where a test wants them to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.runtime.backend import Backend
from qtseg_edge.runtime.fake import FakeBackend
from qtseg_edge.runtime.frames import Frame, Source, SourceInfo
from qtseg_edge.runtime.handoff import Policy
from qtseg_edge.runtime.lane import Stream
from qtseg_edge.runtime.overlay import Overlay
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.segmenter import Segmentation, Segmenter
from qtseg_edge.runtime.sinks.base import Sink
from qtseg_edge.runtime.temporal.filter import TemporalFilter
from tests.media import numbered_frames

Uint8 = NDArray[np.uint8]
RATE = Fraction(25)
COLOURS = ((0, 0, 0), (0, 200, 120), (230, 90, 60))


def info(frames: int | None = None, *, rate: Fraction = RATE, time_base: Fraction | None = None, images: bool = False) -> SourceInfo:
    return SourceInfo("clip.mp4", rate, time_base or 1 / rate, frames, images=images)


def frame_of(rgb: Uint8, index: int = 0, *, time_s: Fraction | None = None, source: str = "clip.mp4") -> Frame:
    return Frame(rgb, index, index / RATE if time_s is None else time_s, source, 0.0, time.perf_counter())


def result_of(rgb: Uint8, mask: Uint8 | None = None, index: int = 0, *, classes: int = 2, confidence: int = 255, **frame: object) -> Result:
    """A result as the pipeline makes it; nothing is marked where no mask is given."""
    mask = np.zeros(rgb.shape[:2], np.uint8) if mask is None else mask
    segmentation = Segmentation(mask, np.full(mask.shape, confidence, np.uint8), 0.0, 0.0, 0.0)
    names = ("background", "polyp", "instrument")[:classes]
    return Result(frame_of(rgb, index, **frame), segmentation, Overlay(COLOURS[:classes], 0.4), names)  # type: ignore[arg-type]


def stream(source: Source, *sinks: Sink, backend: Backend | None = None, policy: Policy | None = None) -> Stream:
    """What every frame shows is let through."""
    segmenter = Segmenter(backend or FakeBackend())
    return Stream(source, segmenter, TemporalFilter(2, segmenter.cut, hysteresis=False), list(sinks), policy)


class ListSource(Source):
    """Yields `frames`; raises `error` before the one with number `fail_at`."""

    def __init__(self, frames: list[Uint8] | int, *, fail_at: int | None = None, error: BaseException | None = None, seconds: float = 0.0):
        self._frames = numbered_frames(frames) if isinstance(frames, int) else frames
        self._fail_at, self._error, self._seconds = fail_at, error, seconds
        self.info = info(len(self._frames))

    def __iter__(self) -> Iterator[Frame]:
        for index, rgb in enumerate(self._frames):
            if index == self._fail_at and self._error is not None:
                raise self._error
            if self._seconds:
                time.sleep(self._seconds)
            yield frame_of(rgb, index)

    def close(self) -> None: ...


class ListSink(Sink):
    """Keeps the results; `write` number `fail_at` raises `error`, as does closing where `fail_to_close`."""

    def __init__(
        self,
        *,
        fail_at: int | None = None,
        error: BaseException | None = None,
        fail_to_close: bool = False,
        seconds: float = 0.0,
        needs_picture: bool = False,
    ) -> None:
        self.name = "list"
        self.results: list[Result] = []
        self.ended: list[str] = []
        self.needs_picture = needs_picture
        self._fail_at, self._error, self._fail_to_close, self._seconds = fail_at, error, fail_to_close, seconds

    def write(self, result: Result) -> None:
        if self._error is not None and len(self.results) == self._fail_at:
            raise self._error
        time.sleep(self._seconds)
        self.results.append(result)

    def close(self) -> None:
        self.ended.append("closed")
        if self._fail_to_close and self._error is not None:
            raise self._error

    def abandon(self) -> None:
        self.ended.append("abandoned")

    @property
    def indices(self) -> list[int]:
        return [result.frame.index for result in self.results]
