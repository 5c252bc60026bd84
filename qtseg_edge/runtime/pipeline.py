"""Three threads and two hand-offs: capture -> segment (the caller's thread) -> sinks.

A failure in any of them ends the run with that error; the sinks are finalised in every case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from qtseg_edge.errors import QtsegError, SourceLostError
from qtseg_edge.runtime.frames import Frame, Source
from qtseg_edge.runtime.handoff import Handoff, HandoffClosedError, Policy
from qtseg_edge.runtime.overlay import Overlay
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.segmenter import Segmenter
from qtseg_edge.runtime.sinks.base import Sink
from qtseg_edge.runtime.timing import LatencyHistogram, Percentiles

STAGES = ("decode", "prepare", "infer", "restore", "draw", "encode", "end to end")
_CAPACITY = 2
_JOIN_SECONDS = 10.0


@dataclass(frozen=True)
class RunReport:
    """frames: written to every sink. seconds: first read to last write. stages: one entry per name in STAGES, milliseconds.

    end to end: from the start of reading a frame to its last sink. foreground_frames: frames with any foreground.
    error: why the run ended early, None where it did not. interrupted: the user ended it.
    """

    frames: int
    seconds: float
    dropped: int
    foreground_frames: int
    stages: dict[str, Percentiles]
    error: QtsegError | None
    interrupted: bool

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0


class Pipeline:
    """One run. `run` may be called once.

    on_frame(frames written so far) is called in the sinks' thread. Source, segmenter and sinks are used by one thread each; the sinks
    are closed here, the source and the backend by their owner.
    """

    def __init__(
        self,
        source: Source,
        segmenter: Segmenter,
        sinks: list[Sink],
        alpha: float = 0.4,
        policy: Policy = "all",
        on_frame: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._source, self._segmenter, self._sinks = source, segmenter, sinks
        card = segmenter.backend.spec.card
        self._overlay, self._classes = Overlay(card.colours_rgb, alpha), card.classes
        self._on_frame = on_frame
        self._captured: Handoff[Frame] = Handoff(_CAPACITY, policy)
        self._segmented: Handoff[Result] = Handoff(_CAPACITY, "all")
        self._error: BaseException | None = None
        self._error_lock = threading.Lock()
        self._histograms = {stage: LatencyHistogram() for stage in STAGES}
        self._frames = self._foreground_frames = 0
        self._failing: Sink | None = None

    def run(self) -> RunReport:
        """Until the source ends, something fails or the user interrupts. Errors that are not QtsegError are raised again."""
        started = time.perf_counter()
        capture = threading.Thread(target=self._capture, name="capture", daemon=True)
        sinks = threading.Thread(target=self._write, name="sinks", daemon=True)
        capture.start()
        sinks.start()
        interrupted = False
        try:
            self._segment()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            interrupted |= _despite_interrupts(lambda: self._wind_up(capture, sinks))
        if self._error is not None and not isinstance(self._error, QtsegError):
            raise self._error
        stages = {stage: histogram.percentiles() for stage, histogram in self._histograms.items()}
        seconds = time.perf_counter() - started
        return RunReport(self._frames, seconds, self._captured.dropped, self._foreground_frames, stages, self._error, interrupted)

    def _wind_up(self, capture: threading.Thread, sinks: threading.Thread) -> None:
        """Wait until the files are finalised. May be begun again."""
        self._captured.cancel()
        self._segmented.finish()
        sinks.join()
        capture.join(_JOIN_SECONDS)

    def _capture(self) -> None:
        try:
            for frame in self._source:
                self._captured.put(frame)
        except HandoffClosedError:
            return
        except BaseException as error:
            self._record(error)
        finally:
            self._captured.finish()  # what was read before the failure is still segmented and written

    def _segment(self) -> None:
        try:
            while True:
                frame = self._captured.get()
                segmentation = self._segmenter.segment(frame.rgb)
                self._segmented.put(Result(frame, segmentation, self._overlay, self._classes))
        except HandoffClosedError:
            return
        except Exception as error:
            self._record(error)

    def _write(self) -> None:
        try:
            while True:
                self._write_one(self._segmented.get())
        except HandoffClosedError:
            pass
        except BaseException as error:
            self._record(error)
        finally:
            self._captured.cancel()  # a source that is slow to give its next frame must not hold up the end
            self._segmented.cancel()
            for sink in self._sinks:
                self._end(sink)

    def _write_one(self, result: Result) -> None:
        started = time.perf_counter()
        if any(sink.needs_picture for sink in self._sinks):
            _ = result.picture
        drawn = time.perf_counter()
        for sink in self._sinks:
            self._failing = sink
            sink.write(result)
        self._failing = None
        written = time.perf_counter()
        frame, segmentation = result.frame, result.segmentation
        latencies = (
            *(frame.decode_ms, segmentation.prepare_ms, segmentation.infer_ms, segmentation.restore_ms),
            *((drawn - started) * 1e3, (written - drawn) * 1e3, (written - frame.captured_at) * 1e3),
        )
        for stage, latency in zip(STAGES, latencies, strict=True):
            if latency is not None:
                self._histograms[stage].add(latency)
        self._frames += 1
        self._foreground_frames += result.area > 0
        self._on_frame(self._frames)

    def _end(self, sink: Sink) -> None:
        """Finalise a sink; one that failed, or never got a frame, has nothing worth keeping."""
        try:
            if sink is self._failing or self._frames == 0:
                sink.abandon()
            else:
                sink.close()
        except BaseException as error:
            self._record(error)

    def _record(self, error: BaseException) -> None:
        """The first error is the one that ended the run; the others follow from it.

        But what was read before a source broke is still to be segmented and written: where that fails too, it must be known.
        """
        with self._error_lock:
            if self._error is None or isinstance(self._error, SourceLostError):
                self._error = error


def _despite_interrupts(work: Callable[[], None]) -> bool:
    """Do it to its end, however often the user presses Ctrl-C. True where that happened."""
    interrupted = False
    while True:
        try:
            work()
            return interrupted
        except KeyboardInterrupt:
            interrupted = True
