"""One source of a run with what is done to its frames, and the hand-offs on their way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.frames import Frame, Source
from qtseg_edge.runtime.handoff import Handoff, Policy
from qtseg_edge.runtime.monitor import LATE, Monitor
from qtseg_edge.runtime.segmenter import Prepared, Segmenter
from qtseg_edge.runtime.sink_worker import SinkWorker
from qtseg_edge.runtime.sinks.base import Sink
from qtseg_edge.runtime.temporal.filter import TemporalFilter

CAPACITY = 2  # of a file's hand-offs: one frame in work, one ready


@dataclass(frozen=True)
class Stream:
    """One source with what is done to its frames. Its parts belong to the run, which ends them; the backend is closed by its owner.

    policy: None takes every frame of a file and the newest of a live source.
    """

    source: Source
    segmenter: Segmenter
    temporal: TemporalFilter
    sinks: Sequence[Sink]
    policy: Policy | None = None


@dataclass(frozen=True)
class Job:
    """A frame on its way to the network. stream: the number of its lane."""

    stream: int
    frame: Frame
    prepared: Prepared
    prepare_ms: float


def seconds_to(deadline: float | None) -> float | None:
    """For waiting with a timeout: not below 0, None for ever."""
    return None if deadline is None else max(0.0, deadline - time.perf_counter())


class Lane:
    """A stream in a run. is_reading: its source has more to give. has_ended: everything that it gave has been inferred."""

    def __init__(self, stream: Stream, monitor: Monitor, ready: threading.Condition) -> None:
        """ready: told whenever a frame has been prepared."""
        info = stream.source.info
        policy: Policy = stream.policy or ("latest" if info.live else "all")
        capacity = 1 if policy == "latest" else CAPACITY
        self.number, self.stream = monitor.add_stream(info.name, lambda: stream.source.status), stream
        self.is_reading, self.has_ended = True, False
        self.needs_picture = any(sink.needs_picture for sink in stream.sinks)
        self.workers: list[SinkWorker] = []

        def late(frame: Frame) -> None:
            if frame.has_signal:
                monitor.dropped(self.number, LATE)

        self.captured: Handoff[Frame] = Handoff(capacity, policy, late)
        self.prepared: Handoff[Job] = Handoff(capacity, policy, lambda job: late(job.frame), ready)

    def start_workers(self, monitor: Monitor, on_failure: Callable[[Sink, BaseException], None], on_closed: Callable[[], None]) -> None:
        for sink in self.stream.sinks:
            self.workers.append(SinkWorker(sink, self.stream.source.info, monitor, on_failure, on_closed))

    def frames(self, most: int | None) -> Iterator[Frame]:
        """Of the source, up to so many pictures; None for all."""
        pictures = 0
        for frame in self.stream.source:
            yield frame
            pictures += frame.has_signal
            if pictures == most:
                return

    def stop(self) -> None:
        """What is not inferred yet is thrown away."""
        self.captured.cancel()
        self.prepared.cancel()

    def finish_workers(self) -> None:
        for worker in self.workers:
            worker.finish()

    def give_up_who_holds_up(self) -> None:
        """An output that makes the others wait loses what it has not written yet."""
        for worker in self.workers:
            if worker.holds_up:
                worker.cancel()

    def join_workers(self, deadline: float | None) -> list[QtsegError]:
        """Waits until each has ended. deadline: `time.perf_counter()`, from which those that have not are given up, with an error each."""
        errors = []
        for worker in self.workers:
            if not worker.join(seconds_to(deadline)):
                error = QtsegError(f"{worker.sink.name}: was not finalised within 2 s; its end may be missing")
                worker.give_up(error)
                errors.append(error)
        return errors

    def abandon_unused(self) -> None:
        """Sinks that never got a thread."""
        for sink in self.stream.sinks[len(self.workers) :]:
            sink.abandon()
