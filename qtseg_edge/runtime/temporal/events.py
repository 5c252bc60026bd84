"""Tracks and events: a region followed through the frames, and what is reported of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Track:
    """A region in this frame that is followed through the frames, and shown.

    id: that of its event. box: x, y, width, height and area: in pixels of the frame (measured at the network's size and scaled).
    confidence: mean probability of its class over its pixels, 0..1.
    """

    id: int
    class_index: int
    box: tuple[int, int, int, int]
    area: int
    confidence: float


@dataclass(frozen=True)
class Event:
    """A region from its first frame to its last, as far as it is known at this frame.

    id: counted from 1 within a stream. started_s, ended_s: `Frame.time` of the first and last frame that showed it; ended_s is None while
    it may go on. frames: how many showed it. peak_area: pixels, at the best frame, which is the one of the largest area x confidence.
    confidence: the highest of its frames. best_frame, best_time_s: index and time of the best frame.
    """

    id: int
    class_index: int
    started_s: float
    ended_s: float | None
    frames: int
    peak_area: int
    confidence: float
    best_frame: int
    best_time_s: float
