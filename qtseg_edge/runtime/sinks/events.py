"""`out.events.jsonl`: one JSON object per event, as soon as it has ended, and a picture of its best frame in `out.events/`."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.files import replacing
from qtseg_edge.runtime.frames import Frame, SourceInfo
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink, reason_of, unwritable
from qtseg_edge.runtime.sinks.recording import Recording
from qtseg_edge.runtime.temporal.events import Event

_HELD_PICTURES = 16  # as they are; those of more open events are held as JPEG
_JPEG_QUALITY = 90


@dataclass
class _Open:
    """An event as it was last seen. pixels: of the frame. started_at, ended_at: UTC where the source is live, else None.

    picture: RGB (h, w, 3), or that as JPEG, of picture_frame: the best of its frames that this sink was fast enough for.
    """

    event: Event
    stream: int
    source: str
    class_name: str
    pixels: int
    started_at: str | None
    ended_at: str | None = None
    picture: NDArray[np.uint8] | bytes | None = None
    picture_frame: int | None = None


class EventLog(Sink):
    """A line is on the disk as soon as its event has ended; the file takes its name when the run ends. Pictures are whole files at once.

    An event whose end this sink was too slow for gets its line without one (`ended_s` null). Memory holds a picture per open event, nothing
    of those that have ended. Raises UsageError where `path` exists.
    """

    needs_picture = True

    def __init__(self, path: Path, info: SourceInfo) -> None:
        self.name = str(path)
        if path.exists():
            raise UsageError(f"--output {path}: exists already, and events are kept; give another name, or move it away")
        self._is_live = info.live
        self._recording = Recording(path)
        try:
            self._folder = _new_folder(path.with_suffix(""))
        except OSError as error:
            self._recording.discard()
            raise unwritable(path.with_suffix(""), error) from error
        self._open: dict[int, _Open] = {}
        self._lines = 0

    def write(self, result: Result) -> None:
        for event in result.events:
            self._note(event, result)
        going_on = {event.id for event in result.events if event.ended_s is None}
        for number in [number for number in self._open if number not in going_on]:
            self._end(self._open.pop(number))
        self._pack()

    def close(self) -> None:
        try:
            for entry in self._open.values():
                self._end(entry, is_last=True)
        finally:
            self._recording.keep()
            self._leave_no_empty_folder()

    def abandon(self) -> None:
        self._leave_no_empty_folder()
        if not self._lines:
            self._recording.discard()
            return
        with suppress(QtsegError):  # the error that led here is the one to report
            self._recording.keep()

    def _note(self, event: Event, result: Result) -> None:
        entry = self._open.get(event.id)
        if entry is None:
            class_name = result.classes[event.class_index]
            started_at = self._utc(event.started_s, result.frame)
            entry = _Open(event, result.stream, result.frame.source, class_name, result.segmentation.mask.size, started_at)
            self._open[event.id] = entry
        entry.event = event
        if event.ended_s is not None:
            entry.ended_at = self._utc(event.ended_s, result.frame)
        elif event.best_frame == result.frame.index:
            entry.picture, entry.picture_frame = result.picture, event.best_frame

    def _utc(self, time_s: float, near: Frame) -> str | None:
        """Of `Frame.time` time_s."""
        if not self._is_live:
            return None
        captured = time.time() - (time.perf_counter() - near.captured_at)
        moment = datetime.fromtimestamp(captured - (float(near.time) - time_s), timezone.utc)
        return moment.isoformat(timespec="milliseconds")

    def _pack(self) -> None:
        held = [entry for entry in self._open.values() if isinstance(entry.picture, np.ndarray)]
        for entry in held[:-_HELD_PICTURES]:
            entry.picture = self._jpeg(entry)

    def _end(self, entry: _Open, is_last: bool = False) -> None:
        """is_last: the run ends while the event goes on."""
        try:
            picture = self._written_picture(entry)
            self._recording.write((json.dumps(_record(entry, picture, is_last), separators=(",", ":")) + "\n").encode())
            self._recording.flush()
        except OSError as error:
            raise QtsegError(
                f"{self.name}: stopped after {self._lines} events ({reason_of(error)}); they are whole and stay; "
                "free some space, or give another --output"
            ) from error
        self._lines += 1

    def _written_picture(self, entry: _Open) -> str | None:
        """Its path, relative to the folder of the log."""
        if entry.picture is None:
            return None
        path = self._folder / f"{entry.event.id}.jpg"
        with replacing(path) as temporary:
            temporary.write_bytes(self._jpeg(entry))
        return f"{self._folder.name}/{path.name}"

    def _jpeg(self, entry: _Open) -> bytes:
        if isinstance(entry.picture, bytes):
            return entry.picture
        assert entry.picture is not None
        encoded, data = cv2.imencode(".jpg", cv2.cvtColor(entry.picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if not encoded:
            raise QtsegError(f"{self.name}: a picture of {entry.picture.shape[1]}x{entry.picture.shape[0]} does not encode")
        return data.tobytes()

    def _leave_no_empty_folder(self) -> None:
        with suppress(OSError):
            self._folder.rmdir()


def _record(entry: _Open, picture: str | None, is_last: bool) -> dict[str, Any]:
    event = entry.event
    return {
        "id": event.id,
        "stream": entry.stream,
        "source": entry.source,
        "class": entry.class_name,
        "started_s": round(event.started_s, 6),
        "ended_s": None if event.ended_s is None else round(event.ended_s, 6),
        "started_at": entry.started_at,
        "ended_at": entry.ended_at,
        "open_at_end": is_last,
        "frames": event.frames,
        "peak_area": event.peak_area,
        "peak_share": round(event.peak_area / entry.pixels, 6),
        "confidence": round(event.confidence, 4),
        "best_frame": event.best_frame,
        "best_time_s": round(event.best_time_s, 6),
        "picture": picture,
        "picture_frame": entry.picture_frame,
    }


def _new_folder(path: Path) -> Path:
    """`path` itself or, where a run that crashed has left one, `path-2` and so on."""
    for number in count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise AssertionError("unreachable")
