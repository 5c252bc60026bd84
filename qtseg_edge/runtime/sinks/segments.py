"""`recordings/?segment=10min&keep=50GB&days=30`: the overlay of a run that goes on for months, in files that each play."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from qtseg_edge.runtime.frames import Frame, SourceInfo
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink
from qtseg_edge.runtime.sinks.retention import Retention, to_remove
from qtseg_edge.runtime.sinks.segment_list import Note, SegmentList
from qtseg_edge.runtime.sinks.video_writer import VideoFile

_LARGEST_SHARE = 1 / 4  # of `keep`, for one segment


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


def _uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Segments(Sink):
    """One video after the other, each named by the UTC time of its first picture and finalised when it is full; no frame is left out
    between two. Finished ones are removed as `retention` says, the oldest first, and only those that a run has noted as its own.

    now: the clock, aware. uptime: seconds since the boot, by a clock that nobody sets. Raises UsageError where another run records into
    the folder, QtsegError where it cannot be written.
    """

    needs_picture = True

    def __init__(
        self,
        folder: Path,
        info: SourceInfo,
        retention: Retention,
        note: Note,
        now: Callable[[], datetime] = _utc_now,
        uptime: Callable[[], float] = _uptime,
    ) -> None:
        self.name = f"{folder}/"
        self._info, self._retention, self._now, self._uptime = info, retention, now, uptime
        self._list = SegmentList(folder, note)
        self._video: VideoFile | None = None
        self._checked_bytes = 0

    def write(self, result: Result) -> None:
        if self._video is not None and self._is_full(self._video):
            self._end()
        if self._video is None:
            started_at = self._moment_of(result.frame)
            self._video = VideoFile(self._list.begin(started_at), self._info, begins=result.frame.time)
            self._checked_bytes = 0
        self._video.write(result)
        if self._video.bytes_written != self._checked_bytes:
            self._checked_bytes = self._video.bytes_written
            if self._pruned():
                self._list.save()

    def close(self) -> None:
        try:
            self._end()
        finally:
            self._list.close()

    def abandon(self) -> None:
        video, self._video = self._video, None
        try:
            if video is not None:
                video.abandon()
                self._list.end(self._now(), self._uptime())
                self._list.save()
        finally:
            self._list.close()

    def _end(self) -> None:
        video, self._video = self._video, None
        if video is None:
            return
        try:
            video.close()
        finally:
            self._list.end(self._now(), self._uptime())
            self._checked_bytes = 0
            self._pruned()
            self._list.save()  # last: on a full disk there may be room for it by now

    def _is_full(self, video: VideoFile) -> bool:
        """Long enough, or so large that `keep` has no room for three more: else one long segment could push out all others, then itself."""
        keep = self._retention.keep_bytes
        return video.duration_s >= self._retention.segment_s or (keep is not None and video.bytes_written >= keep * _LARGEST_SHARE)

    def _pruned(self) -> bool:
        retention = self._retention
        if not to_remove(self._list.finished, self._checked_bytes, retention, self._now(), self._uptime()):
            return False
        self._list.forget_missing()
        gone = to_remove(self._list.finished, self._checked_bytes, retention, self._now(), self._uptime())
        self._list.remove(gone, retention.asked)
        return True

    def _moment_of(self, frame: Frame) -> datetime:
        now = self._now()
        if not self._info.live:
            return now
        return datetime.fromtimestamp(now.timestamp() - (time.perf_counter() - frame.captured_at), timezone.utc)
