"""A file as if it were live: for rehearsals of what a camera will do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from qtseg_edge.runtime.frames import Frame, Source, SourceStatus


class Realtime(Source):
    """Hands on the frames of `source`, which it owns, when they are due. A frame that is late moves all that follow: none are hurried.

    Ends and breaks as `source` does. The frames keep their `time`; single images come at the source's rate.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stop = threading.Event()
        self.info = replace(source.info, live=True)

    @property
    def status(self) -> SourceStatus:
        return self._source.status

    def __iter__(self) -> Iterator[Frame]:
        due, last = time.perf_counter(), None
        for frame in self._source:
            if last is not None:
                step = frame.time - last.time if frame.source == last.source else 1 / self.info.rate
                due = max(due + float(step), time.perf_counter())
            if self._stop.wait(max(0.0, due - time.perf_counter())):
                return
            last = frame
            yield replace(frame, captured_at=time.perf_counter())

    def close(self) -> None:
        self._stop.set()
        self._source.close()
