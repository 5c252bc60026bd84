"""An output in a thread of its own: what it waits for, what it leaves out, and that it holds up nobody."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.frames import STALE_SECONDS, SourceStatus
from qtseg_edge.runtime.monitor import SLOW_OUTPUT, Monitor
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sink_worker import SinkWorker
from qtseg_edge.runtime.sinks.base import Sink, ViewClosed
from tests.runtime.stand_ins import ListSink, info, result_of

pytestmark = [pytest.mark.timeout(20), pytest.mark.usefixtures("no_thread_is_left")]
RGB = np.zeros((8, 8, 3), np.uint8)


def result(index: int) -> Result:
    return result_of(RGB, index=index)


class Watched:
    """A worker with what it has told."""

    def __init__(self, sink: Sink, is_live: bool = False) -> None:
        self.monitor = Monitor("fake", "tiny")
        self.monitor.add_stream("camera", SourceStatus)
        self.failures: list[tuple[Sink, BaseException]] = []
        self.closed = threading.Event()
        self.worker = SinkWorker(
            sink, replace(info(), live=is_live), self.monitor, lambda *failure: self.failures.append(failure), self.closed.set
        )

    def end(self) -> None:
        self.worker.finish()
        assert self.worker.join(10)


class Gate(ListSink):
    """Writes nothing before it is opened."""

    def __init__(self, is_view: bool = False) -> None:
        super().__init__()
        self.is_view = is_view
        self.writing, self.opened = threading.Event(), threading.Event()

    def write(self, result: Result) -> None:
        self.writing.set()
        assert self.opened.wait(15)
        super().write(result)


def test_of_a_file_everything_is_written_however_slow_the_output_is() -> None:
    sink = ListSink(seconds=0.01)
    watched = Watched(sink)
    for index in range(30):
        watched.worker.put(result(index))
    watched.end()
    assert (sink.indices, sink.ended) == (list(range(30)), ["closed"])
    assert watched.monitor.snapshot().sinks[0].written == 30


def test_a_live_stream_never_waits_for_an_output_and_what_is_left_out_is_counted() -> None:
    sink = Gate()
    watched = Watched(sink, is_live=True)
    watched.worker.put(result(0))
    assert sink.writing.wait(5)
    started = time.perf_counter()
    for index in range(1, 41):
        watched.worker.put(result(index))
    assert time.perf_counter() - started < 1
    sink.opened.set()
    watched.end()
    dropped = watched.monitor.snapshot().streams[0].dropped
    assert dropped == {SLOW_OUTPUT: 41 - len(sink.results)}
    assert sink.indices == [0, *range(41 - len(sink.results) + 1, 41)]  # the newest are kept
    assert 2 <= len(sink.results) <= 20


def test_a_view_gets_the_newest_and_nothing_counts_as_lost() -> None:
    sink = Gate(is_view=True)
    watched = Watched(sink)
    watched.worker.put(result(0))
    assert sink.writing.wait(5)
    for index in range(1, 9):
        watched.worker.put(result(index))
    sink.opened.set()
    watched.end()
    assert sink.indices == [0, 8]
    assert watched.monitor.snapshot().streams[0].dropped == {}


@pytest.mark.parametrize("is_view", [True, False])
def test_only_a_view_is_told_that_nothing_comes(is_view: bool) -> None:
    class Counting(ListSink):
        starving = 0

        def starved(self) -> None:
            self.starving += 1

    sink = Counting()
    sink.is_view = is_view
    watched = Watched(sink)
    watched.worker.put(result(0))
    time.sleep(2.6 * STALE_SECONDS)
    watched.end()
    assert sink.starving == (2 if is_view else 0)


def test_what_fails_is_abandoned_told_once_and_takes_nothing_more() -> None:
    sink = ListSink(fail_at=2, error=QtsegError("disk full"))
    watched = Watched(sink)
    for index in range(10):
        watched.worker.put(result(index))
    watched.end()
    assert [(failed is sink, str(error)) for failed, error in watched.failures] == [(True, "disk full")]
    assert (sink.indices, sink.ended) == ([0, 1], ["abandoned"])
    assert not watched.worker.is_working
    assert watched.monitor.snapshot().sinks[0].error == "disk full"


def test_a_failure_at_the_end_is_told_too() -> None:
    watched = Watched(ListSink(error=QtsegError("no name"), fail_to_close=True))
    watched.worker.put(result(0))
    watched.end()
    assert [str(error) for _, error in watched.failures] == ["no name"]


def test_an_output_that_got_nothing_is_abandoned() -> None:
    sink = ListSink()
    Watched(sink).end()
    assert sink.ended == ["abandoned"]


def test_a_view_that_the_user_closes_ends_the_run_and_is_no_failure() -> None:
    class Closing(ListSink):
        def write(self, result: Result) -> None:
            raise ViewClosed("window")

    sink = Closing()
    watched = Watched(sink)
    watched.worker.put(result(0))
    assert watched.closed.wait(5)
    watched.end()
    assert (sink.ended, watched.failures) == (["closed"], [])


def test_cancelled_it_throws_away_what_is_pending() -> None:
    sink = Gate()
    watched = Watched(sink, is_live=True)
    for index in range(3):
        watched.worker.put(result(index))
    assert sink.writing.wait(5)
    watched.worker.cancel()
    sink.opened.set()
    assert watched.worker.join(10)
    assert (sink.indices, sink.ended) == ([0], ["closed"])


@pytest.mark.parametrize(("is_view", "is_live", "shown"), [(True, True, False), (True, False, True), (False, True, True)])
def test_a_view_of_something_live_shows_no_mask_that_comes_too_late(is_view: bool, is_live: bool, shown: bool) -> None:
    """A network of more than a second a frame: what it says is not about what is there now. A file waits, and a recording is of then."""
    sink = ListSink(needs_picture=True)
    sink.is_view = is_view
    watched = Watched(sink, is_live)
    made = result_of(RGB, np.ones((8, 8), np.uint8), 1)
    old = replace(made, frame=replace(made.frame, captured_at=time.perf_counter() - STALE_SECONDS - 0.1))
    watched.worker.put(old)
    watched.end()
    (written,) = sink.results
    assert written.frame.has_signal is shown
    assert np.array_equal(written.picture, old.picture) is shown


def test_of_large_frames_fewer_wait_for_a_slow_output() -> None:
    sink = Gate()
    monitor = Monitor("fake", "tiny")
    monitor.add_stream("camera", SourceStatus)
    about = replace(info(), live=True, size_hw=(2160, 3840))
    worker = SinkWorker(sink, about, monitor, lambda *_: None, lambda: None)
    worker.put(result(0))
    assert sink.writing.wait(5)
    for index in range(1, 20):
        worker.put(result(index))
    sink.opened.set()
    worker.finish()
    assert worker.join(10)
    assert sink.indices == [0, 18, 19]


def test_frames_without_signal_have_no_latency() -> None:
    watched = Watched(ListSink())
    lost = result(1)
    watched.worker.put(replace(lost, frame=replace(lost.frame, has_signal=False)))
    watched.worker.put(result(2))
    watched.end()
    latencies = watched.monitor.snapshot().latencies
    assert (latencies["write"].percentiles().count, latencies["end to end"].percentiles().count) == (1, 1)
