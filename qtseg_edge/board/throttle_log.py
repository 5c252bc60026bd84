"""When the machine was throttled during a run, from one look after the other."""

from __future__ import annotations

from qtseg_edge.board.reading import BoardReading

HOLD_SECONDS = 10.0  # without any before it counts as over: over-current comes in bursts, and each would be two lines
_CURE = "improve cooling or power supply, or take a lower power mode"


class ThrottleLog:
    """Used by one thread; times are of one monotonic clock, in seconds.

    seen: every reason so far. now: those of the episode that goes on, empty between episodes.
    """

    def __init__(self) -> None:
        self.seen: tuple[str, ...] = ()
        self.now: tuple[str, ...] = ()
        self._over_s = 0.0  # of the episodes that have ended
        self._since = self._last = 0.0

    def seconds(self) -> float:
        """From the first look with throttling to the last, of all episodes."""
        return self._over_s + (self._last - self._since if self.now else 0.0)

    def update(self, reading: BoardReading, now: float) -> str | None:
        """One line for the user where throttling begins or has ended, else None."""
        if reading.throttled:
            begins, self._last = not self.now, now
            self._since = now if begins else self._since
            self.now = _joined(self.now, reading.throttled)
            self.seen = _joined(self.seen, reading.throttled)
            hot = f", {reading.hottest}" if reading.hottest else ""
            return f"throttled ({', '.join(self.now)}{hot}): slower than its power mode allows; {_CURE}" if begins else None
        if self.now and now - self._last >= HOLD_SECONDS:
            seconds = self._last - self._since
            self._over_s += seconds
            self.now = ()
            return f"no longer throttled, after {seconds:.0f} s"
        return None


def _joined(before: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before, *more)))
