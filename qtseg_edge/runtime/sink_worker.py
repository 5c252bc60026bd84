"""One output in a thread of its own: it slows and stops nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.frames import STALE_SECONDS, SourceInfo
from qtseg_edge.runtime.handoff import Handoff, HandoffClosedError
from qtseg_edge.runtime.monitor import SLOW_OUTPUT, Monitor
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink, ViewClosed

_FILE_CAPACITY = 2  # a file waits for its output
_LIVE_CAPACITY, _LIVE_BYTES = 12, 100 << 20  # half a second of 720p in which a disk may be busy; fewer of larger frames
_BYTES_OF_PIXEL = 8  # frame, drawn picture, mask and confidence


class SinkWorker:
    """Writes results to `sink` until `finish` or `cancel`, then ends it.

    on_failure(sink, error) is called in the worker's thread, once, where it failed; on_closed where the user closed the view.
    """

    def __init__(
        self,
        sink: Sink,
        info: SourceInfo,
        monitor: Monitor,
        on_failure: Callable[[Sink, BaseException], None],
        on_closed: Callable[[], None],
    ) -> None:
        self.sink, self._is_live = sink, info.live
        self._monitor, self._number = monitor, monitor.add_sink(sink.name)
        self._on_failure, self._on_closed = on_failure, on_closed
        if sink.is_view:
            self._results: Handoff[Result] = Handoff(1, "latest")
        elif info.live:
            self._results = Handoff(_live_capacity(info), "latest", self._left_out)
        else:
            self._results = Handoff(_FILE_CAPACITY, "all")
        self._written = 0
        self._failed_once = False
        self._thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)
        self._thread.start()

    @property
    def is_working(self) -> bool:
        return self._thread.is_alive() and not self._failed_once

    @property
    def holds_up(self) -> bool:
        """Whether whoever gives it a result has to wait."""
        return not self._is_live and not self.sink.is_view and self._results.is_full

    def put(self, result: Result) -> None:
        """Nothing, where the sink has failed or was closed by the user."""
        with suppress(HandoffClosedError):
            self._results.put(result)

    def finish(self) -> None:
        """Write what is pending, then end the sink."""
        self._results.finish()

    def cancel(self) -> None:
        """Throw away what is pending, then end the sink."""
        self._results.cancel()

    def give_up(self, error: QtsegError) -> None:
        """It does not end: its thread is left to itself."""
        self._results.cancel()
        self._monitor.sink_failed(self._number, str(error))

    def join(self, timeout: float | None) -> bool:
        """Whether the sink has been ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._write_all()
        except HandoffClosedError:
            self._end(self.sink.close if self._written else self.sink.abandon)
        except ViewClosed:
            self._results.cancel()
            self._end(self.sink.close)
            self._on_closed()
        except BaseException as error:
            self._results.cancel()
            self._failed(error)
            with suppress(Exception):  # what failed first is what is told
                self.sink.abandon()

    def _write_all(self) -> None:
        patience = STALE_SECONDS if self.sink.is_view else None
        while True:
            try:
                result = self._results.get(patience)
            except TimeoutError:
                self.sink.starved()
                continue
            started = time.perf_counter()
            if self._is_too_late(result, started):
                result = result.without_signal()
            self.sink.write(result)
            written = time.perf_counter()
            self._written += 1
            self._monitor.written(self._number)
            if result.frame.has_signal:
                self._monitor.latency("write", (written - started) * 1e3)
                self._monitor.latency("end to end", (written - result.frame.captured_at) * 1e3)

    def _is_too_late(self, result: Result, now: float) -> bool:
        """A network that is slower than STALE_SECONDS shows nobody what was there then."""
        return self._is_live and self.sink.is_view and now - result.frame.captured_at > STALE_SECONDS

    def _left_out(self, late: Result) -> None:
        if late.frame.has_signal:
            self._monitor.dropped(late.stream, SLOW_OUTPUT)

    def _end(self, ending: Callable[[], None]) -> None:
        try:
            ending()
        except BaseException as error:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self._failed_once = True
        self._monitor.sink_failed(self._number, str(error))
        self._on_failure(self.sink, error)


def _live_capacity(info: SourceInfo) -> int:
    if info.size_hw is None:
        return _LIVE_CAPACITY
    return max(_FILE_CAPACITY, min(_LIVE_CAPACITY, _LIVE_BYTES // (info.size_hw[0] * info.size_hw[1] * _BYTES_OF_PIXEL)))
