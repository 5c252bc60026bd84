"""One stream's sink for the page: the newest result, ready to be sent to whoever asks."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

from qtseg_edge.runtime.frames import STALE_SECONDS, SourceInfo
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink
from qtseg_edge.runtime.web.event_list import EventList
from qtseg_edge.runtime.web.picture import Picture, picture_of
from qtseg_edge.spec import ModelCard


@dataclass(frozen=True)
class Shot:
    """The newest thing a stream has to say. number: grows from one to the next. made_at, captured_at: `time.perf_counter()`.

    has_signal: there is a frame; it has no picture where nobody looked when it came. share: foreground of the frame, 0..1.
    reason: why there is no signal. index, time_s: of the frame.
    """

    number: int
    made_at: float
    captured_at: float
    has_signal: bool
    share: float = 0.0
    index: int = 0
    time_s: float = 0.0
    reason: str = ""
    picture: Picture | None = None

    @property
    def is_stale(self) -> bool:
        """Too old to be shown."""
        return time.perf_counter() - self.made_at > STALE_SECONDS


class ServerEnds(Exception):
    """There will be nothing more to send."""


class Bell:
    """Tells coroutines of one event loop that something has changed, from any thread.

    is_over: the server ends.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung = asyncio.Event()
        self.is_over = False

    def hang(self) -> None:
        """In the loop that is to hear it."""
        self._loop = asyncio.get_running_loop()

    @property
    def next_ring(self) -> asyncio.Event:
        return self._rung

    def ring(self) -> None:
        """Nothing where no loop runs."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._ring)

    def end(self) -> None:
        """In the loop that hears it."""
        self.is_over = True
        self._ring()

    def _ring(self) -> None:
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()


class WebView(Sink):
    """Encodes a frame once, in the sink's own thread, and only while somebody looks. Holds one picture, whatever the viewers do.

    watchers: how many want pictures; counted by the server's thread.
    """

    is_view = True

    def __init__(self, name: str, info: SourceInfo, number: int, card: ModelCard, threshold: float, bell: Bell) -> None:
        """name: the address. number: of the stream in the run. threshold: foreground probability from which the run counts a pixel."""
        self.name, self.info, self.number, self.card, self.threshold = name, info, number, card, threshold
        self.events = EventList(info.live, card.colours_rgb, info.pixel_aspect)
        self.watchers = 0
        self._bell = bell
        self._seen_at: float | None = None
        self.latest = Shot(0, time.perf_counter(), 0.0, False, reason="no picture yet")

    def write(self, result: Result) -> None:
        self.events.note(result)
        frame, now = result.frame, time.perf_counter()
        self._seen_at = now
        if not frame.has_signal:
            late_s = now - frame.captured_at
            reason = f"masks come {late_s:.1f} s late" if late_s > STALE_SECONDS else "the source has no signal"
            self._tell(Shot(self.latest.number + 1, now, frame.captured_at, False, reason=reason))
            return
        share = result.area / result.segmentation.mask.size
        picture = picture_of(result, self.info.pixel_aspect) if self.watchers else None
        self._tell(Shot(self.latest.number + 1, now, frame.captured_at, True, share, frame.index, float(frame.time), "", picture))

    def starved(self) -> None:
        silent = "no picture yet" if self._seen_at is None else f"no picture for {time.perf_counter() - self._seen_at:.0f} s"
        self._tell_no_signal(silent)

    def close(self) -> None:
        self.events.end_all()
        self._tell_no_signal("the run has ended")

    def abandon(self) -> None:
        self.close()

    async def newer(self, seen: int, with_picture: bool, seconds: float) -> Shot | None:
        """The newest shot after number `seen`; None where none came within `seconds`. Raises ServerEnds.

        with_picture: one that can be shown, or no signal.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            if self._bell.is_over:
                raise ServerEnds
            ring, shot = self._bell.next_ring, self.latest
            if shot.number > seen and not (with_picture and shot.has_signal and shot.picture is None):
                return shot
            try:
                await asyncio.wait_for(ring.wait(), until - loop.time())
            except asyncio.TimeoutError:
                return None

    def _tell_no_signal(self, reason: str) -> None:
        now = time.perf_counter()
        self._tell(Shot(self.latest.number + 1, now, now, False, reason=reason))

    def _tell(self, shot: Shot) -> None:
        self.latest = shot
        self._bell.ring()
