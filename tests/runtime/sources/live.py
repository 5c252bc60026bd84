"""Sources that do what a test says, and ways to watch one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from qtseg_edge.runtime.frames import STALE_SECONDS, Frame, Source, SourceInfo, SourceStatus
from qtseg_edge.runtime.sources.live import LIVE_TIME_BASE
from qtseg_edge.runtime.sources.supervised import Patience

PATIENCE_S = 30.0  # that a busy machine may take
QUICK = Patience(stall_s=0.4, open_s=2.0, restarts=3, backoff_s=0.02, backoff_most_s=0.1, steady_s=1.0)


class FakeLive(Source):
    """`count` frames at `rate`, then `ending`: returns, raises what it is given, or waits for ever where it is "hang".

    The frames' red is `mark`, their captured_at lies `late_s` back. closed: how often it was.
    """

    def __init__(
        self, count: int = 10**9, ending: str | Exception = "end", *, rate: int = 50, mark: int = 0, late_s: float = 0.0, damaged: int = 0
    ) -> None:
        self._count, self._ending, self._rate, self._mark, self._late_s, self._damaged = count, ending, rate, mark, late_s, damaged
        self._stop = threading.Event()
        self.never = threading.Event()  # set by a test to end a hang
        self.closed = 0
        self.info = SourceInfo("fake://u", Fraction(rate), LIVE_TIME_BASE, None, live=True, size_hw=(24, 32))

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._count):
            if self._stop.wait(1 / self._rate):
                return
            rgb = np.full((24, 32, 3), (self._mark, 0, 0), np.uint8)
            yield Frame(rgb, index, Fraction(index, self._rate), "inner", 0.1, time.perf_counter() - self._late_s)
        if self._ending == "hang":
            self.never.wait(PATIENCE_S)
        elif isinstance(self._ending, Exception):
            raise self._ending

    @property
    def status(self) -> SourceStatus:
        return SourceStatus(damaged=self._damaged)

    def close(self) -> None:
        self.closed += 1
        self._stop.set()


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def frames_until(frames: Iterator[Frame], enough: Callable[[list[Frame]], object]) -> list[Frame]:
    """What an iterator gives until something holds. No frame is older than it may be when it comes."""
    seen: list[Frame] = []
    deadline = time.monotonic() + PATIENCE_S
    while not enough(seen):
        assert time.monotonic() < deadline, "it did not happen"
        frame = next(frames)
        assert time.perf_counter() - frame.captured_at < STALE_SECONDS + 0.5
        assert frame.has_signal or not frame.rgb.any()
        seen.append(frame)
    return seen
