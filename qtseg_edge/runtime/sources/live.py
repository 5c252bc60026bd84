"""What every live source shares: the clock its frames go by, and a handle that may be closed while another thread reads from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction

LIVE_TIME_BASE = Fraction(1, 1000)
LIVE_RATE = Fraction(25)  # where a live source does not say its own
_CREDIBLE_RATES = (Fraction(1, 10), Fraction(240))


class LiveClock:
    """Seconds since the first frame, in LIVE_TIME_BASE, growing with every frame however close together they come."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._ticks = -1

    def time_of(self, captured_at: float) -> Fraction:
        if self._first is None:
            self._first = captured_at
        self._ticks = max(self._ticks + 1, round((captured_at - self._first) / LIVE_TIME_BASE))
        return self._ticks * LIVE_TIME_BASE


class SharedHandle:
    """Freed by `close` at once, or as soon as the call under way in another thread returns: FFmpeg and OpenCV crash where it is freed
    under them.
    """

    def __init__(self, free: Callable[[], object]) -> None:
        self._free = free
        self._lock = threading.Lock()
        self._closing = self._freed = False

    @contextmanager
    def in_use(self) -> Iterator[bool]:
        """Whether it may still be used."""
        try:
            with self._lock:
                yield not self._closing
        finally:
            if self._closing:
                self.close()

    def close(self) -> None:
        """Never waits. May be called from any thread, and again."""
        self._closing = True
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._freed:
                self._freed = True
                self._free()
        finally:
            self._lock.release()


def credible_rate(rate: Fraction | float | None) -> Fraction:
    """The rate that a live source states; LIVE_RATE where that is none (a stream's clock of 90 kHz, a camera's 0)."""
    least, most = _CREDIBLE_RATES
    if not rate or not least <= rate <= most:
        return LIVE_RATE
    return Fraction(rate).limit_denominator(1001)
