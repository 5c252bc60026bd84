"""The threads of a run and the hand-offs between them.

Of every source: capture -> prepare. Of all together: infer (the caller's thread, which owns the GPU) -> restore -> draw. Of every
output: write. A live source hands on its newest frame and counts the others; a file hands on every one. A source or an output that
fails ends alone; the engine's failure, or the last output's, ends the run. The outputs are finalised in every case, those of a
source as soon as it has ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from qtseg_edge.errors import QtsegError, SourceLostError, UsageError
from qtseg_edge.runtime.backend import Backend, Masks
from qtseg_edge.runtime.handoff import Handoff, HandoffClosedError, take_ready
from qtseg_edge.runtime.lane import CAPACITY, Job, Lane, Stream, seconds_to
from qtseg_edge.runtime.monitor import Monitor, Snapshot
from qtseg_edge.runtime.overlay import Overlay
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.segmenter import Segmentation
from qtseg_edge.runtime.sinks.base import Sink
from qtseg_edge.runtime.timing import Percentiles

_FINALISE_SECONDS = 1.6  # after an interrupt; whoever stops a service waits no longer than 2
_HELD_UP_SECONDS = 0.6  # of them, for outputs that make the others wait
_JOIN_SECONDS = 0.2  # for a source that does not give up its thread; nothing of it is needed any more


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


class Pipeline:
    """One run. `run` may be called once.

    on_frame(pictures so far), at every result, and on_failure(error), where an output or a source fails and others go on, are called in
    threads of the run. alpha: opacity of the tint. max_frames: of every source, None for all.
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
        self._lanes = [Lane(stream, self._monitor, ready) for stream in streams]
        # A lane behind its last result says that it has ended.
        self._inferred: Handoff[tuple[Job, Masks | None, float | None] | Lane] = Handoff(CAPACITY, "all")
        self._restored: Handoff[Result | Lane] = Handoff(CAPACITY, "all")
        self._error: BaseException | None = None
        self._is_told = False  # already, to on_failure
        self._error_lock = threading.Lock()
        self._frames = 0

    def run(self) -> RunReport:
        """Until the sources end, the engine fails or the user interrupts. Errors that are not QtsegError are raised again."""
        started = time.perf_counter()
        finishing: list[threading.Thread] = []
        captures: list[threading.Thread] = []
        interrupted = False
        try:
            for lane in self._lanes:
                lane.start_workers(self._monitor, self._sink_failed, self._stop)
            finishing += [_started(self._restore), _started(self._draw)]
            captures += [_started(work, lane) for lane in self._lanes for work in (self._capture, self._prepare)]
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

    def _capture(self, lane: Lane) -> None:
        try:
            for frame in lane.frames(self._max_frames):
                lane.captured.put(frame)
        except HandoffClosedError:
            return
        except BaseException as error:
            self._source_failed(lane, error)
        finally:
            lane.is_reading = False
            lane.captured.finish()  # what was read before the failure is still segmented and written

    def _prepare(self, lane: Lane) -> None:
        try:
            while True:
                frame = lane.captured.get()
                started = time.perf_counter()
                stands_alone = lane.stream.source.info.images or not frame.has_signal
                prepared = lane.stream.segmenter.prepare(frame.rgb, None if stands_alone else float(frame.time))
                lane.prepared.put(Job(lane.number, frame, prepared, _ms_since(started)))
        except HandoffClosedError:
            pass
        except BaseException as error:
            self._source_failed(lane, error)
        finally:
            lane.captured.cancel()
            lane.prepared.finish()

    def _infer(self) -> None:
        handoffs = [lane.prepared for lane in self._lanes]
        try:
            while True:
                self._infer_batch(take_ready(handoffs))
                for lane in self._lanes:
                    if lane.prepared.is_over and not lane.has_ended:
                        lane.has_ended = True
                        self._inferred.put(lane)
        except HandoffClosedError:
            return
        except Exception as error:
            self._record(error)

    def _infer_batch(self, jobs: list[Job]) -> None:
        """As many in one call as the model takes."""
        for job in jobs:
            if job.prepared.is_flat:
                self._inferred.put((job, None, None))
        pictures = [job for job in jobs if not job.prepared.is_flat]
        together = self._backend.spec.batch or self._backend.largest_batch or max(len(pictures), 1)
        for first in range(0, len(pictures), together):
            batch = pictures[first : first + together]
            started = time.perf_counter()
            masks = _inferred(self._backend, batch)
            infer_ms = _ms_since(started)
            for job, own in zip(batch, masks, strict=True):
                self._inferred.put((job, own, infer_ms))

    def _restore(self) -> None:
        try:
            while True:
                inferred = self._inferred.get()
                self._restored.put(inferred if isinstance(inferred, Lane) else self._restore_one(*inferred))
        except HandoffClosedError:
            pass
        except BaseException as error:
            self._record(error)
        finally:
            self._inferred.cancel()
            self._restored.finish()

    def _restore_one(self, job: Job, masks: Masks | None, infer_ms: float | None) -> Result:
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
                restored = self._restored.get()
                if isinstance(restored, Lane):
                    restored.finish_workers()
                else:
                    self._hand_out(restored)
        except HandoffClosedError:
            pass
        except BaseException as error:
            self._record(error)
        finally:
            self._restored.cancel()
            self._stop()
            for lane in self._lanes:
                lane.finish_workers()

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
                self._hand_out_rest(finishing, deadline)
                for error in [error for lane in self._lanes for error in lane.join_workers(deadline)]:
                    self._record(error)
                for lane in self._lanes:
                    lane.stream.source.close()  # frees a reader that waits for its next picture
                deadline = time.perf_counter() + _JOIN_SECONDS
                for thread in captures:
                    thread.join(seconds_to(deadline))
                for lane in self._lanes:
                    lane.abandon_unused()
                return interrupted
            except KeyboardInterrupt:
                interrupted = True

    def _hand_out_rest(self, finishing: list[threading.Thread], deadline: float | None) -> None:
        """Wait until every output has been given every result. With a deadline, an output that holds up the others is given up."""
        patience = None if deadline is None else deadline - _FINALISE_SECONDS + _HELD_UP_SECONDS
        for thread in finishing:
            thread.join(seconds_to(patience))
        if any(thread.is_alive() for thread in finishing):
            for lane in self._lanes:
                lane.give_up_who_holds_up()
        for thread in finishing:
            thread.join(seconds_to(deadline))

    def _source_failed(self, lane: Lane, error: BaseException) -> None:
        goes_on = any(other.is_reading for other in self._lanes if other is not lane)
        self._record(error, goes_on)
        if goes_on:
            self._on_failure(error)

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


def _inferred(backend: Backend, jobs: list[Job]) -> list[Masks]:
    """Of each job its own (1, H, W) mask and confidence, which outlive the backend's next call."""
    images = [job.prepared.image for job in jobs]
    masks = backend.infer(images[0] if len(images) == 1 else np.concatenate(images))
    return [Masks(masks.mask[index : index + 1].copy(), masks.confidence[index : index + 1].copy()) for index in range(len(jobs))]


def _started(work: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments, name=work.__name__.strip("_"), daemon=True)
    thread.start()
    return thread


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3
