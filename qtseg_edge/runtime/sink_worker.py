"""One output in a thread of its own: it slows and stops nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from qtseg_edge.runtime.frames import STALE_SECONDS
from qtseg_edge.runtime.handoff import Handoff, HandoffClosedError
from qtseg_edge.runtime.monitor import SLOW_OUTPUT, Monitor
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink, ViewClosed

_FILE_CAPACITY = 2  # a file waits for its output
_LIVE_CAPACITY = 12  # half a second in which a disk may be busy; a frame of 720p with its picture takes 7 MB


class SinkWorker:
    """Writes results to `sink` until `finish` or `cancel`, then ends it.

    on_failure(sink, error) is called in the worker's thread, once, where it failed; on_closed where the user closed the view.
    """

    def __init__(
        self,
        sink: Sink,
        is_live: bool,
        monitor: Monitor,
        on_failure: Callable[[Sink, BaseException], None],
        on_closed: Callable[[], None],
    ) -> None:
        self.sink = sink
        self._monitor, self._number = monitor, monitor.add_sink(sink.name)
        self._on_failure, self._on_closed = on_failure, on_closed
        if sink.is_view:
            self._results: Handoff[Result] = Handoff(1, "latest")
        elif is_live:
            self._results = Handoff(_LIVE_CAPACITY, "latest", lambda late: monitor.dropped(late.stream, SLOW_OUTPUT))
        else:
            self._results = Handoff(_FILE_CAPACITY, "all")
        self._written = 0
        self._failed_once = False
        self._thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)
        self._thread.start()

    @property
    def is_working(self) -> bool:
        return self._thread.is_alive() and not self._failed_once

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
            self.sink.write(result)
            written = time.perf_counter()
            self._written += 1
            self._monitor.written(self._number)
            if result.frame.has_signal:
                self._monitor.latency("write", (written - started) * 1e3)
                self._monitor.latency("end to end", (written - result.frame.captured_at) * 1e3)

    def _end(self, ending: Callable[[], None]) -> None:
        try:
            ending()
        except BaseException as error:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self._failed_once = True
        self._monitor.sink_failed(self._number, str(error))
        self._on_failure(self.sink, error)
