"""The last events of a stream, kept for whoever opens the page later."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from qtseg_edge.runtime.frames import Frame
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.temporal.events import Event
from qtseg_edge.runtime.web.picture import thumbnail

_KEPT = 50


@dataclass
class _Entry:
    """started_at: seconds since 1970 where the source is live. pixels: of the frame. last_s: time of the newest frame that knew it.

    ended_s: as the event says, or `last_s` where the result that ended it never came here (is_exact is then False).
    thumbnail: of the best frame that came here, whose number is `version` and whose area x confidence is `score`.
    """

    event: Event
    class_name: str
    started_at: float | None
    pixels: int
    last_s: float
    ended_s: float | None = None
    is_exact: bool = True
    thumbnail: bytes = b""
    version: int = -1
    score: float = 0.0


class EventList:
    """Written by the sink's thread, read by any. Holds the newest 50 events and a small picture of each: less than 1 MB.

    revision: grows with every change.
    """

    def __init__(self, is_live: bool, colours_rgb: tuple[tuple[int, int, int], ...], pixel_aspect: Fraction) -> None:
        self._is_live, self._colours, self._pixel_aspect = is_live, colours_rgb, pixel_aspect
        self._lock = threading.Lock()
        self._entries: dict[int, _Entry] = {}
        self.revision = 0

    def note(self, result: Result) -> None:
        if not result.events and all(entry.ended_s is not None for entry in self._entries.values()):
            return
        scores = {track.id: track.area * track.confidence for track in result.tracks}
        best = [event.id for event in result.events if scores.get(event.id, 0.0) > self._score(event.id)]
        picture = thumbnail(result, self._colours, self._pixel_aspect) if best else b""
        with self._lock:
            for event in result.events:
                self._note(event, result)
            for number in best:
                entry = self._entries[number]
                entry.thumbnail, entry.version, entry.score = picture, result.frame.index, scores[number]
            self._end_others({event.id for event in result.events})
            for number in sorted(self._entries, key=self._worth)[:-_KEPT]:
                del self._entries[number]
            self.revision += 1

    def rows(self) -> list[dict[str, Any]]:
        """For the page, the newest event first. Times are seconds of `Frame.time`."""
        with self._lock:
            return [_row(entry) for _, entry in sorted(self._entries.items(), reverse=True)]

    def picture(self, event: int) -> bytes | None:
        """JPEG of its best frame."""
        with self._lock:
            entry = self._entries.get(event)
            return entry.thumbnail or None if entry else None

    def end_all(self) -> None:
        """No result will come any more."""
        with self._lock:
            self._end_others(set())
            self.revision += 1

    def _worth(self, number: int) -> tuple[bool, int]:
        return self._entries[number].ended_s is None, number

    def _score(self, number: int) -> float:
        entry = self._entries.get(number)
        return entry.score if entry else 0.0

    def _note(self, event: Event, result: Result) -> None:
        entry = self._entries.get(event.id)
        if entry is None:
            started_at = _wall_clock(event.started_s, result.frame) if self._is_live else None
            class_name = result.classes[event.class_index]
            entry = _Entry(event, class_name, started_at, result.segmentation.mask.size, float(result.frame.time))
            self._entries[event.id] = entry
        entry.event, entry.ended_s, entry.is_exact = event, event.ended_s, True
        entry.last_s = float(result.frame.time)

    def _end_others(self, going_on: set[int]) -> None:
        for entry in self._open():
            if entry.event.id not in going_on:
                entry.ended_s, entry.is_exact = entry.last_s, False

    def _open(self) -> Iterator[_Entry]:
        return (entry for entry in self._entries.values() if entry.ended_s is None)


def _wall_clock(time_s: float, near: Frame) -> float:
    """Of `Frame.time` time_s, seconds since 1970."""
    return time.time() - (time.perf_counter() - near.captured_at) - (float(near.time) - time_s)


def _row(entry: _Entry) -> dict[str, Any]:
    event = entry.event
    return {
        "id": event.id,
        "class": entry.class_name,
        "class_index": event.class_index,
        "started_s": round(event.started_s, 2),
        "started_at": entry.started_at,
        "is_open": entry.ended_s is None,
        "is_exact": entry.is_exact,
        "duration_s": round((entry.last_s if entry.ended_s is None else entry.ended_s) - event.started_s, 2),
        "peak_share": round(event.peak_area / entry.pixels, 5),
        "confidence": round(event.confidence, 3),
        "picture": entry.version if entry.thumbnail else None,
    }
