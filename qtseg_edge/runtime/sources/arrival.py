"""When the data of a live picture would have arrived had nothing held it up."""

from __future__ import annotations

from fractions import Fraction

_REMEMBERED = 64  # packets whose pictures the decoder may still hold
_FORGOTTEN_SHARE = 0.02  # clocks of cheap cameras are wrong by as much
_JUMP_SECONDS = 0.5
_CATCH_UP_SECONDS = 2.0


class ArrivalClock:
    """Follows how far the sender's time stamps run ahead of their arrival: what piles up on the way, because the network or this machine
    is too slow, comes later and later. A lag that grows by less than 2 % is not told from a camera's wrong clock.

    time_base: unit of the sender's time stamps in seconds, None where they are not the sender's; then nothing counts as late.
    """

    def __init__(self, time_base: Fraction | None) -> None:
        self._time_base = None if time_base is None else float(time_base)
        self._captured: dict[int, float] = {}
        self._least = 0.0  # of arrival less time stamp, in seconds
        self._first: float | None = None  # arrival
        self._last: tuple[float, float] | None = None  # time stamp, arrival
        self._newest = 0.0  # time stamp
        self._is_current = time_base is None

    @property
    def is_current(self) -> bool:
        """False at the beginning, while what piled up before the reading comes all at once: how old that is nobody can tell."""
        return self._is_current

    def arrived(self, pts: int | None, now: float) -> float:
        """now: `time.perf_counter()` at which a packet was read. Returns when it would have come without a hold-up."""
        if pts is None:
            return now
        captured_at = now if self._time_base is None else min(now, self._undelayed(pts * self._time_base, now))
        self._captured[pts] = captured_at
        if len(self._captured) > _REMEMBERED:
            del self._captured[next(iter(self._captured))]
        return captured_at

    def captured_at(self, pts: int | None, fallback: float) -> float:
        """Of the picture with this time stamp, once; `fallback` where no packet had it."""
        return fallback if pts is None else self._captured.pop(pts, fallback)

    def _undelayed(self, stamp: float, now: float) -> float:
        if self._first is None or self._last is None:
            self._first, self._newest, self._least = now, stamp, now - stamp
        else:
            self._is_current = self._is_current or self._has_caught_up(stamp, now, now - self._first)
            step, passed = stamp - self._last[0], now - self._last[1]
            if -_JUMP_SECONDS <= step <= passed + _JUMP_SECONDS:  # a little backwards: pictures that refer to later ones come after them
                self._least = min(self._least + _FORGOTTEN_SHARE * passed, now - stamp)
            else:  # the sender set its clock
                self._least = now - stamp
        self._last = stamp, now
        return stamp + self._least

    def _has_caught_up(self, stamp: float, now: float, since_first: float) -> bool:
        """Whether the time stamps no longer run away from the clock. They do for ever where a sender is faster than it says."""
        step, self._newest = stamp - self._newest, max(stamp, self._newest)
        return since_first > _CATCH_UP_SECONDS or (step > 0 and now - stamp > self._least - step / 2)
