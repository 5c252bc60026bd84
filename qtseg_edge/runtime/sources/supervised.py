"""Keeps a live source alive: opens it again when it ends, breaks, hangs or comes late, and says "no signal" meanwhile."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from qtseg_edge.errors import QtsegError, SourceLostError
from qtseg_edge.runtime.frames import STALE_SECONDS, Frame, Source, SourceStatus
from qtseg_edge.runtime.sources.live import LIVE_TIME_BASE, LiveClock
from qtseg_edge.runtime.sources.uri import redacted

_UNKNOWN_SIZE_HW = (720, 1280)
_BLANK_SECONDS = 0.5  # between two frames that say "no signal"
_MOST_FRAMES = 16  # that wait for a run that wants every one of them
_MOST_HUNG = 8  # readers that hang; each holds a thread and whatever its source has open


@dataclass(frozen=True)
class Patience:
    """stall_s: without a fresh frame before it is opened again. open_s: for opening. restarts: how often in a row it is opened again
    before it is given up, -1 for ever; `steady_s` of frames end the row. Between two openings pass `backoff_s`, twice as long each time
    up to `backoff_most_s`: as it is, 30 of them last 4 minutes or more.
    """

    stall_s: float = 5.0
    open_s: float = 20.0
    restarts: int = 30
    backoff_s: float = 0.5
    backoff_most_s: float = 10.0
    steady_s: float = 10.0

    def pause_before(self, attempt: int) -> float:
        """attempt: from 1."""
        return min(self.backoff_most_s, self.backoff_s * 2.0 ** min(attempt - 1, 30))


class Supervised(Source):
    """`source` belongs to it from now on, and so does what `reopen` returns. Frames are numbered and timed anew, on through reopenings.

    The iterator gives the newest frame that there is, or with `every` each of them; never one that is older than STALE_SECONDS. What nobody
    takes in time is counted as late. While it has none it gives black ones without
    signal, in the size of the last: at once when the source is lost, then twice a second. It raises SourceLostError when the restarts
    are used up, and whatever else ends the watch over the source. on_event gets one line at every loss and every return, in another thread.
    """

    def __init__(
        self,
        source: Source,
        reopen: Callable[[], Source],
        patience: Patience | None = None,
        on_event: Callable[[str], None] = lambda _: None,
        every: bool = False,
    ) -> None:
        self._reopen, self._patience, self._on_event = reopen, patience or Patience(), on_event
        self.info = replace(source.info, live=True, frames=None, time_base=LIVE_TIME_BASE)
        self._lock = threading.Lock()  # guards everything below
        self._news, self._failure = threading.Condition(self._lock), threading.Condition(self._lock)
        self._closed = False
        self._frames: deque[Frame] = deque()
        self._most_frames = _MOST_FRAMES if every else 1
        self._size_hw = source.info.size_hw or _UNKNOWN_SIZE_HW
        self._last_fresh: float | None = None
        self._blank_due = 0.0
        self._lost = ""  # why there are no frames; empty while they come or may still come
        self._given_up: Exception | None = None
        self._openings = self._damaged_before = self._late = 0
        self._reader: _Reader | None = _Reader(lambda: source, self)
        self._reader.thread.start()
        threading.Thread(target=self._keep, args=(self._reader,), name=f"supervisor of {self.info.name}", daemon=True).start()

    def __iter__(self) -> Iterator[Frame]:
        clock, index = LiveClock(), 0
        with self._lock:
            self._blank_due = time.perf_counter() + STALE_SECONDS
        while (frame := self._next()) is not None:
            yield replace(frame, index=index, time=clock.time_of(frame.captured_at), source=self.info.name)
            index += 1

    def close(self) -> None:
        """Never waits; a reader that hangs is left to its thread."""
        with self._lock:
            reader, self._reader, self._closed = self._reader, None, True
            self._damaged_before += reader.damaged if reader else 0
            self._news.notify_all()
            self._failure.notify_all()
        if reader is not None:
            reader.abandon()

    @property
    def status(self) -> SourceStatus:
        with self._lock:
            damaged = self._damaged_before + (self._reader.damaged if self._reader else 0)
            reason = self._lost
            if not reason and self._last_fresh is None:
                reason = "no picture yet"
            elif not reason and self._last_fresh is not None and (age := time.perf_counter() - self._last_fresh) > STALE_SECONDS:
                reason = f"no picture for {age:.1f} s"
            return SourceStatus(not reason, max(0, self._openings - 1), damaged, reason, self._late)

    def _next(self) -> Frame | None:
        with self._lock:
            while not self._closed:
                now = time.perf_counter()
                while self._frames and now - self._frames[0].captured_at > STALE_SECONDS:
                    self._frames.popleft()
                    self._late += 1
                if self._frames:
                    frame = self._frames.popleft()
                    self._blank_due = now if self._lost and not self._frames else frame.captured_at + STALE_SECONDS
                    return frame
                if self._given_up:
                    raise self._given_up
                if now >= self._blank_due:
                    self._blank_due = now + _BLANK_SECONDS
                    black = np.zeros((*self._size_hw, 3), np.uint8)
                    return Frame(black, 0, Fraction(0), self.info.name, 0.0, now, has_signal=False)
                self._news.wait(self._blank_due - now)
            return None

    # Called by the readers, in their threads. What a reader that was given up says is ignored.

    def opened(self, reader: _Reader, source: Source) -> bool:
        """Whether it is to be read."""
        with self._lock:
            reader.source, reader.opened_at = source, time.perf_counter()
            if reader is not self._reader:
                return False
            self._openings += 1
            return True

    def take(self, reader: _Reader, frame: Frame) -> bool:
        """Whether the reader is to go on."""
        now = time.perf_counter()
        with self._lock:
            if reader is not self._reader:
                return False
            if now - frame.captured_at > STALE_SECONDS:
                reader.late_s = now - frame.captured_at
                self._late += 1
                return True
            reader.fresh(now)
            before, self._last_fresh = self._last_fresh, now
            was_lost, self._lost = self._lost, ""
            if len(self._frames) == self._most_frames:
                self._frames.popleft()
                self._late += 1
            self._frames.append(frame)
            self._size_hw = frame.rgb.shape[0], frame.rgb.shape[1]
            self._news.notify_all()
        if was_lost and before is not None:
            self._on_event(f"{self.info.name}: back after {now - before:.1f} s")
        return True

    def ended(self, reader: _Reader, reason: str) -> None:
        with self._lock:
            reader.reason = self._shown(reason)
            self._failure.notify_all()

    # The supervisor's own thread.

    def _keep(self, reader: _Reader) -> None:
        try:
            self._watch_over(reader)
        except Exception as error:  # no thread to be had, or `on_event`: nobody would open it again
            with self._lock:
                left, self._reader, self._given_up = self._reader, None, error
                self._lost = self._lost or self._shown(f"{type(error).__name__}: {error}")
                self._news.notify_all()
            if left is not None:
                left.abandon()

    def _watch_over(self, reader: _Reader) -> None:
        patience, row, hung = self._patience, 0, list[_Reader]()
        while (reason := self._watch(reader)) is not None:
            row = 1 if reader.steady_s >= patience.steady_s else row + 1
            is_last = 0 <= patience.restarts < row
            if not self._lose(reader, reason, row - 1 if is_last else None):
                return
            hung = [other for other in (*hung, reader) if other.thread.is_alive()]
            self._on_event(f"{self.info.name}: {reason}; opening again (attempt {row})")
            reader = _Reader(self._reopen if len(hung) < _MOST_HUNG else _refuse, self)
            if not self._begin_after(patience.pause_before(row), reader):
                return

    def _watch(self, reader: _Reader) -> str | None:
        """Waits until it fails. Returns why, None where the source was closed."""
        with self._lock:
            while not self._closed:
                if reader.reason:
                    return reader.reason
                now = time.perf_counter()
                if now >= (deadline := reader.deadline(self._patience)):
                    return reader.stalled(now)
                self._failure.wait(deadline - now)
            return None

    def _lose(self, reader: _Reader, reason: str, given_up_after: int | None) -> bool:
        """Whether to open it again."""
        with self._lock:
            if self._closed:
                return False
            self._reader, self._lost, self._blank_due = None, reason, time.perf_counter()
            self._damaged_before += reader.damaged
            if given_up_after is not None:
                self._given_up = self._gave_up(reason, given_up_after)
            self._news.notify_all()
        reader.abandon()
        return given_up_after is None

    def _begin_after(self, seconds: float, reader: _Reader) -> bool:
        """False where the source was closed."""
        with self._lock:
            self._failure.wait_for(lambda: self._closed, seconds)
            if self._closed:
                return False
            reader.started_at = time.perf_counter()
            self._reader = reader
        reader.thread.start()
        return True

    def _gave_up(self, reason: str, attempts: int) -> SourceLostError:
        since = "" if self._last_fresh is None else f" in {time.perf_counter() - self._last_fresh:.0f} s"
        tried = f"not back after {attempts} attempts{since}" if attempts else "not opened again, as asked"
        return SourceLostError(f"{self.info.name}: lost ({reason}), {tried}; check it and the way to it, or try for ever: --restarts -1")

    def _shown(self, reason: str) -> str:
        return redacted(reason).removeprefix(f"{self.info.name}: ")


class _Reader:
    """One opening of the source, read to its end in a thread of its own, which is left alone where it hangs. Its numbers are guarded by
    the supervisor's lock.
    """

    def __init__(self, opening: Callable[[], Source], supervisor: Supervised) -> None:
        self._opening, self._supervisor = opening, supervisor
        self.thread = threading.Thread(target=self._run, name=f"reader of {supervisor.info.name}", daemon=True)
        self.source: Source | None = None
        self.started_at = time.perf_counter()
        self.opened_at: float | None = None
        self.late_s = 0.0
        self.reason = ""  # why it ended; empty while it has not
        self._first_fresh: float | None = None
        self._last_fresh = 0.0

    def fresh(self, now: float) -> None:
        self._first_fresh = self._first_fresh or now
        self._last_fresh, self.late_s = now, 0.0

    @property
    def steady_s(self) -> float:
        """How long frames came."""
        return 0.0 if self._first_fresh is None else self._last_fresh - self._first_fresh

    @property
    def damaged(self) -> int:
        return self.source.status.damaged if self.source else 0

    def deadline(self, patience: Patience) -> float:
        """When the next fresh frame must have come."""
        if self.opened_at is None:
            return self.started_at + patience.open_s
        return max(self.opened_at, self._last_fresh) + patience.stall_s

    def stalled(self, now: float) -> str:
        if self.opened_at is None:
            return f"not open after {now - self.started_at:.1f} s"
        if self.late_s:
            return f"its pictures come {self.late_s:.1f} s late"
        return f"no picture for {now - max(self.opened_at, self._last_fresh):.1f} s"

    def abandon(self) -> None:
        """Closes the source unless its thread has ended, and closed it; in a thread, because that may hang as well."""
        if self.source is not None and self.thread.is_alive():
            threading.Thread(target=self.source.close, name=f"closing {self._supervisor.info.name}", daemon=True).start()

    def _run(self) -> None:
        reason = "it ended"
        try:
            source = self._opening()
            if self._supervisor.opened(self, source):
                for frame in source:
                    if not self._supervisor.take(self, frame):
                        break
        except QtsegError as error:
            reason = str(error)
        except Exception as error:  # whatever a camera's driver comes up with must not end a run that could go on
            reason = f"{type(error).__name__}: {error}"
        self._supervisor.ended(self, reason)
        if self.source is not None:
            with suppress(Exception):  # it is lost as it is
                self.source.close()


def _refuse() -> Source:
    raise QtsegError(f"{_MOST_HUNG} earlier readings hang, another is not begun")
