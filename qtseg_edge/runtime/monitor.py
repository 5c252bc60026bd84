"""How a run is doing, for whoever watches it: the web page, the metrics, the report, systemd."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from qtseg_edge import IMPORTED_AT
from qtseg_edge.board.watch import BoardState
from qtseg_edge.runtime.frames import SourceStatus
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.timing import LatencyHistogram

STAGES = ("decode", "prepare", "infer", "restore", "draw", "write", "frame age", "end to end")
# Why a frame was not segmented (late: a newer one had come; damaged) or not written (slow output).
LATE, DAMAGED, SLOW_OUTPUT = "late", "damaged", "slow output"


@dataclass(frozen=True)
class StreamSnapshot:
    """name: of the source. frames: segmented. dropped: reason -> frames. age_s: since the newest segmented picture was captured, None
    before the first. mask_share: foreground of the newest, 0..1. fps: over the last seconds. ages: of its pictures when their masks were
    ready, milliseconds; shared, not to be changed.
    """

    name: str
    status: SourceStatus
    frames: int
    foreground_frames: int
    dropped: dict[str, int]
    age_s: float | None
    mask_share: float
    fps: float
    ages: LatencyHistogram


@dataclass(frozen=True)
class SinkSnapshot:
    """written: results. error: why it stopped, one line; empty while it works."""

    name: str
    written: int
    error: str


@dataclass(frozen=True)
class Snapshot:
    """engine: backend, such as "tensorrt fp16". model: the card's name. latencies: one per name in STAGES, shared, not to be changed.
    board: None where this machine tells nothing of itself. first_result_s: from the start of the program (the import of this package) to
    its first mask, None before that.
    """

    engine: str
    model: str
    uptime_s: float
    streams: tuple[StreamSnapshot, ...]
    sinks: tuple[SinkSnapshot, ...]
    latencies: dict[str, LatencyHistogram]
    board: BoardState | None = None
    first_result_s: float | None = None

    def note(self) -> str:
        """One line for who watches the run: what is wrong, else how old the newest picture is and how many were left out."""
        down = [f"{stream.name}: {stream.status.reason}" for stream in self.streams if not stream.status.up]
        down += [f"{sink.name}: stopped" for sink in self.sinks if sink.error]
        down += [f"throttled: {', '.join(self.board.throttled)}"] if self.board and self.board.throttled else []
        ages = [stream.age_s for stream in self.streams if stream.status.up and stream.age_s is not None]
        dropped = sum(sum(stream.dropped.values()) for stream in self.streams)
        return "; ".join([*down, *([f"age {max(ages) * 1e3:.0f} ms"] if ages else []), *([f"{dropped} dropped"] if dropped else [])])


@dataclass
class _Stream:
    name: str
    status: Callable[[], SourceStatus]
    frames: int = 0
    foreground_frames: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    captured_at: float | None = None
    mask_share: float = 0.0
    fps: float = 0.0
    ages: LatencyHistogram = field(default_factory=LatencyHistogram)
    window: tuple[float, int] = (0.0, 0)  # when the current measurement of fps began, and the frames before it


@dataclass
class _Sink:
    name: str
    written: int = 0
    error: str = ""


class Monitor:
    """Every method may be called from any thread. board: asked at every snapshot."""

    def __init__(self, engine: str, model: str, board: Callable[[], BoardState | None] = lambda: None) -> None:
        self._engine, self._model, self._board = engine, model, board
        self._started = time.perf_counter()
        self._first_result_s: float | None = None
        self._lock = threading.Lock()
        self._streams: list[_Stream] = []
        self._sinks: list[_Sink] = []
        self.latencies = {stage: LatencyHistogram() for stage in STAGES}

    def add_stream(self, name: str, status: Callable[[], SourceStatus]) -> int:
        """status: asked at every snapshot. Returns the stream's number."""
        with self._lock:
            self._streams.append(_Stream(name, status, window=(time.perf_counter(), 0)))
            return len(self._streams) - 1

    def add_sink(self, name: str) -> int:
        with self._lock:
            self._sinks.append(_Sink(name))
            return len(self._sinks) - 1

    def latency(self, stage: str, milliseconds: float) -> None:
        with self._lock:
            self.latencies[stage].add(milliseconds)

    def segmented(self, result: Result) -> None:
        """A picture of a stream got its mask; one without signal is no picture."""
        now = time.perf_counter()
        with self._lock:
            stream = self._streams[result.stream]
            if not result.frame.has_signal:
                stream.mask_share = 0.0
                return
            if self._first_result_s is None:
                self._first_result_s = now - IMPORTED_AT
            stream.frames += 1
            stream.foreground_frames += result.area > 0
            stream.captured_at = result.frame.captured_at
            stream.ages.add((result.segmented_at - result.frame.captured_at) * 1e3)
            stream.mask_share = result.area / result.segmentation.mask.size
            since, before = stream.window
            if now - since >= _FPS_SECONDS:
                stream.fps, stream.window = (stream.frames - before) / (now - since), (now, stream.frames)

    def dropped(self, stream: int, reason: str, frames: int = 1) -> None:
        with self._lock:
            self._streams[stream].dropped[reason] += frames

    def written(self, sink: int) -> None:
        with self._lock:
            self._sinks[sink].written += 1

    def sink_failed(self, sink: int, error: str) -> None:
        with self._lock:
            self._sinks[sink].error = error

    def snapshot(self) -> Snapshot:
        now = time.perf_counter()
        with self._lock:
            streams = tuple(self._of(stream, now) for stream in self._streams)
            sinks = tuple(SinkSnapshot(sink.name, sink.written, sink.error) for sink in self._sinks)
            first = self._first_result_s
        return Snapshot(self._engine, self._model, now - self._started, streams, sinks, self.latencies, self._board(), first)

    def _of(self, stream: _Stream, now: float) -> StreamSnapshot:
        status = stream.status()
        dropped = dict(stream.dropped + Counter({DAMAGED: status.damaged, LATE: status.late}))
        age = None if stream.captured_at is None else now - stream.captured_at
        fps = stream.fps if now - stream.window[0] < 2 * _FPS_SECONDS else 0.0
        counts = stream.frames, stream.foreground_frames
        return StreamSnapshot(stream.name, status, *counts, dropped, age, stream.mask_share, fps, stream.ages)


_FPS_SECONDS = 1.0
