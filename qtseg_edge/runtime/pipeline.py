"""The threads of a run and the hand-offs between them.

Of every source: capture -> prepare. Of all together: infer (the caller's thread, which owns the GPU) -> restore -> draw. Of every
output: write. A live source hands on its newest frame and counts the others; a file hands on every one. A source or an output that
fails ends alone; the engine's failure, or the last output's, ends the run. The outputs are finalised in every case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from qtseg_edge.errors import QtsegError, SourceLostError, UsageError
from qtseg_edge.runtime.backend import Backend, Masks
from qtseg_edge.runtime.frames import Frame, Source
from qtseg_edge.runtime.handoff import Handoff, HandoffClosedError, Policy, take_ready
from qtseg_edge.runtime.monitor import LATE, Monitor, Snapshot
from qtseg_edge.runtime.overlay import Overlay
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.segmenter import Prepared, Segmentation, Segmenter
from qtseg_edge.runtime.sink_worker import SinkWorker
from qtseg_edge.runtime.sinks.base import Sink
from qtseg_edge.runtime.temporal.filter import TemporalFilter
from qtseg_edge.runtime.timing import Percentiles

_CAPACITY = 2  # of a file's hand-offs: one frame in work, one ready
_FINALISE_SECONDS = 1.6  # after an interrupt; whoever stops a service waits no longer than 2
_JOIN_SECONDS = 0.2  # for a source that does not give up its thread; nothing of it is needed any more


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
class RunReport:
    """frames: segmented, of all sources. seconds: first read to last write. dropped: never segmented, or not written. stages: one entry
    per name in STAGES, milliseconds. foreground_frames: frames with any foreground. snapshot: the same by source and output.
    error: the first failure that matters, None where there was none. interrupted: the user ended it.
    """

    frames: int
    seconds: float
    dropped: int
    foreground_frames: int
    stages: dict[str, Percentiles]
    snapshot: Snapshot
    error: QtsegError | None
    interrupted: bool

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class _Job:
    """A frame on its way; prepare_ms and infer_ms are filled in as it goes."""

    stream: int
    frame: Frame
    prepared: Prepared
    prepare_ms: float


class _Lane:
    """The hand-offs and outputs of one stream."""

    def __init__(self, number: int, stream: Stream, monitor: Monitor, ready: threading.Condition) -> None:
        info = stream.source.info
        policy: Policy = stream.policy or ("latest" if info.live else "all")
        capacity = 1 if policy == "latest" else _CAPACITY
        self.number, self.stream = monitor.add_stream(info.name, lambda: stream.source.status), stream

        def late(frame: Frame) -> None:
            if frame.has_signal:
                monitor.dropped(number, LATE)

        self.captured: Handoff[Frame] = Handoff(capacity, policy, late)
        self.prepared: Handoff[_Job] = Handoff(capacity, policy, lambda job: late(job.frame), ready)
        self.workers: list[SinkWorker] = []
        self.needs_picture = any(sink.needs_picture for sink in stream.sinks)

    def stop(self) -> None:
        self.captured.cancel()
        self.prepared.cancel()


class Pipeline:
    """One run. `run` may be called once.

    on_frame(pictures so far), at every result, and on_failure(error), where an output fails and others go on, are called in threads of the
    run. alpha: opacity of the tint. max_frames: of every source, None for all.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        alpha: float = 0.4,
        *,
        monitor: Monitor | None = None,
        on_frame: Callable[[int], None] = lambda _: None,
        on_failure: Callable[[BaseException], None] = lambda _: None,
        max_frames: int | None = None,
    ) -> None:
        self._backend = streams[0].segmenter.backend
        if any(stream.segmenter.backend is not self._backend for stream in streams):
            raise UsageError("a run has one engine; wanted segmenters of the same backend")
        card = self._backend.spec.card
        self._overlay, self._classes = Overlay(card.colours_rgb, alpha), card.classes
        self._monitor = monitor or Monitor(self._backend.name, card.name)
        self._on_frame, self._on_failure, self._max_frames = on_frame, on_failure, max_frames
        ready = threading.Condition()
        self._lanes = [_Lane(number, stream, self._monitor, ready) for number, stream in enumerate(streams)]
        self._inferred: Handoff[tuple[_Job, Masks | None, float | None]] = Handoff(_CAPACITY, "all")
        self._restored: Handoff[Result] = Handoff(_CAPACITY, "all")
        self._error: BaseException | None = None
        self._is_told = False  # already, to on_failure
        self._error_lock = threading.Lock()
        self._frames = 0

    def run(self) -> RunReport:
        """Until the sources end, the engine fails or the user interrupts. Errors that are not QtsegError are raised again."""
        started = time.perf_counter()
        for lane in self._lanes:
            live = lane.stream.source.info.live
            lane.workers = [SinkWorker(sink, live, self._monitor, self._sink_failed, self._stop) for sink in lane.stream.sinks]
        captures = [thread for lane in self._lanes for thread in (_started(self._capture, lane), _started(self._prepare, lane))]
        finishing = [_started(self._restore), _started(self._draw)]
        interrupted = False
        try:
            self._infer()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            interrupted = self._wind_up(finishing, captures, interrupted)
        if self._error is not None and not isinstance(self._error, QtsegError):
            raise self._error
        return self._report(time.perf_counter() - started, interrupted)

    def _report(self, seconds: float, interrupted: bool) -> RunReport:
        error = self._error
        assert error is None or isinstance(error, QtsegError)
        snapshot = self._monitor.snapshot()
        stages = {stage: histogram.percentiles() for stage, histogram in snapshot.latencies.items()}
        dropped = sum(sum(stream.dropped.values()) for stream in snapshot.streams)
        foreground = sum(stream.foreground_frames for stream in snapshot.streams)
        return RunReport(self._frames, seconds, dropped, foreground, stages, snapshot, error, interrupted)

    def _capture(self, lane: _Lane) -> None:
        try:
            for frame in islice(lane.stream.source, self._max_frames):
                lane.captured.put(frame)
        except HandoffClosedError:
            return
        except BaseException as error:
            self._record(error)
        finally:
            lane.captured.finish()  # what was read before the failure is still segmented and written

    def _prepare(self, lane: _Lane) -> None:
        try:
            while True:
                frame = lane.captured.get()
                started = time.perf_counter()
                stands_alone = lane.stream.source.info.images or not frame.has_signal
                prepared = lane.stream.segmenter.prepare(frame.rgb, None if stands_alone else float(frame.time))
                lane.prepared.put(_Job(lane.number, frame, prepared, _ms_since(started)))
        except HandoffClosedError:
            pass
        except BaseException as error:
            self._record(error)
        finally:
            lane.captured.cancel()
            lane.prepared.finish()

    def _infer(self) -> None:
        handoffs = [lane.prepared for lane in self._lanes]
        try:
            while True:
                self._infer_batch(take_ready(handoffs))
        except HandoffClosedError:
            return
        except Exception as error:
            self._record(error)

    def _infer_batch(self, jobs: list[_Job]) -> None:
        """In one call where the model takes any batch, one after the other where it takes one."""
        for job in jobs:
            if job.prepared.is_flat:
                self._inferred.put((job, None, None))
        pictures = [job for job in jobs if not job.prepared.is_flat]
        together = len(pictures) if self._backend.spec.batch is None else 1
        for first in range(0, len(pictures), max(together, 1)):
            batch = pictures[first : first + together]
            started = time.perf_counter()
            masks = _inferred(self._backend, batch)
            infer_ms = _ms_since(started)
            for job, own in zip(batch, masks, strict=True):
                self._inferred.put((job, own, infer_ms))

    def _restore(self) -> None:
        try:
            while True:
                self._restored.put(self._restore_one(*self._inferred.get()))
        except HandoffClosedError:
            pass
        except BaseException as error:
            self._record(error)
        finally:
            self._inferred.cancel()
            self._restored.finish()

    def _restore_one(self, job: _Job, masks: Masks | None, infer_ms: float | None) -> Result:
        started = time.perf_counter()
        stream, frame, prepared = self._lanes[job.stream].stream, job.frame, job.prepared
        filtered = stream.temporal.update(masks, prepared, frame)
        segmentation = stream.segmenter.restore(prepared, filtered.masks)
        restored = time.perf_counter()
        restore_ms = (restored - started) * 1e3
        found = Segmentation(*segmentation, job.prepare_ms, infer_ms, restore_ms)
        result = Result(frame, found, self._overlay, self._classes, filtered.tracks, filtered.events, job.stream, restored)
        self._monitor.segmented(result)
        if frame.has_signal:
            age_ms = (restored - frame.captured_at) * 1e3
            latencies = {
                "decode": frame.decode_ms,
                "prepare": job.prepare_ms,
                "infer": infer_ms,
                "restore": restore_ms,
                "frame age": age_ms,
            }
            for stage, latency in latencies.items():
                if latency is not None:
                    self._monitor.latency(stage, latency)
        return result

    def _draw(self) -> None:
        try:
            while True:
                self._hand_out(self._restored.get())
        except HandoffClosedError:
            pass
        except BaseException as error:
            self._record(error)
        finally:
            self._restored.cancel()
            self._stop()
            for lane in self._lanes:
                for worker in lane.workers:
                    worker.finish()

    def _hand_out(self, result: Result) -> None:
        lane = self._lanes[result.stream]
        if lane.needs_picture:
            started = time.perf_counter()
            _ = result.picture
            self._monitor.latency("draw", _ms_since(started))
        for worker in lane.workers:
            worker.put(result)
        self._frames += result.frame.has_signal
        self._on_frame(self._frames)

    def _stop(self) -> None:
        """What is segmented is still written."""
        for lane in self._lanes:
            lane.stop()

    def _wind_up(self, finishing: list[threading.Thread], captures: list[threading.Thread], interrupted: bool) -> bool:
        """Wait until the outputs are finalised, however often the user presses Ctrl-C. Whether the user interrupted."""
        while True:
            try:
                self._stop()
                self._inferred.finish()
                deadline = time.perf_counter() + _FINALISE_SECONDS if interrupted else None
                for thread in finishing:
                    thread.join(_left(deadline))
                for worker in [worker for lane in self._lanes for worker in lane.workers]:
                    if not worker.join(_left(deadline)):
                        worker.cancel()
                        self._record(QtsegError(f"{worker.sink.name}: was not finalised within 2 s; its end may be missing"))
                for lane in self._lanes:
                    lane.stream.source.close()  # frees a reader that waits for its next picture
                deadline = time.perf_counter() + _JOIN_SECONDS
                for thread in captures:
                    thread.join(_left(deadline))
                return interrupted
            except KeyboardInterrupt:
                interrupted = True

    def _sink_failed(self, sink: Sink, error: BaseException) -> None:
        goes_on = any(worker.is_working for lane in self._lanes for worker in lane.workers)
        self._record(error, goes_on)
        if goes_on:
            self._on_failure(error)
        else:
            self._stop()

    def _record(self, error: BaseException, is_told: bool = False) -> None:
        """The first error is the one that ended the run, unless that went on and told of it; the others follow from it.

        But what was read before a source broke is still to be segmented and written: where that fails too, it must be known.
        """
        with self._error_lock:
            if self._error is None or isinstance(self._error, SourceLostError) or (self._is_told and not is_told):
                self._error, self._is_told = error, is_told


def _inferred(backend: Backend, jobs: list[_Job]) -> list[Masks]:
    """Of each job its own (1, H, W) mask and confidence, which outlive the backend's next call."""
    images = [job.prepared.image for job in jobs]
    masks = backend.infer(images[0] if len(images) == 1 else np.concatenate(images))
    return [Masks(masks.mask[index : index + 1].copy(), masks.confidence[index : index + 1].copy()) for index in range(len(jobs))]


def _started(work: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, name=work.__name__.strip("_"), daemon=True)
    thread.start()
    return thread


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.perf_counter())


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
