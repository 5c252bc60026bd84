"""`rtsp://HOST:PORT/PATH`: the overlay as H.264 to a media server, which hands it on to whoever looks."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime.frames import SourceInfo
from qtseg_edge.runtime.handoff import Handoff, HandoffClosedError
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink, reason_of
from qtseg_edge.runtime.sinks.card import NoSignalCard
from qtseg_edge.runtime.sinks.h264 import H264Encoder

if TYPE_CHECKING:
    from av.container import OutputContainer

_log = logging.getLogger(__name__)
# Decoded with every frame in order as it comes: no B-frames, no look-ahead.
_OPTIONS = {"preset": "veryfast", "crf": "23", "tune": "zerolatency"}
_TIME_BASE = Fraction(1, 90_000)
_PORT = 554
# Of every wait for the server. Whoever ends a run waits no longer than 2 s.
_TIMEOUT_SECONDS = 0.8
_TAKES_NOTHING = "the server takes nothing"
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 5.0


class RtspPublisher(Sink):
    """Publishes over TCP. A server that goes away is tried again, with pauses that grow to 5 s; one that does not take the stream at all
    is an error. Whoever looks sees NO SIGNAL where no result has come for a while. Time stamps are the clock's.
    """

    needs_picture = True
    is_view = True

    def __init__(self, address: str, info: SourceInfo) -> None:
        """address: may hold a password, which is shown nowhere. Raises UsageError (not an address), QtsegError (no server there)."""
        from qtseg_edge.runtime.sources.uri import redacted

        self.name = redacted(address)
        self._address, self._info = address, info
        self._require_server()
        self._card = NoSignalCard()
        self._session: _Session | None = None
        self._was_published = self._is_lost = False
        self._pause, self._retry_at = _FIRST_PAUSE_SECONDS, 0.0

    def write(self, result: Result) -> None:
        self._card.seen(result)
        self._publish(result.picture)

    def starved(self) -> None:
        card = self._card.picture()
        if card is not None:
            self._publish(card)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._check(self._session)

    def abandon(self) -> None:
        if self._session is not None:
            self._session.close()

    def _publish(self, picture: NDArray[np.uint8]) -> None:
        if self._session is not None:
            self._check(self._session)
        if self._session is None:
            if time.monotonic() < self._retry_at:
                return
            self._session = _Session(self._address, (picture.shape[0], picture.shape[1]), self._info)
        self._session.put(picture)

    def _check(self, session: _Session) -> None:
        """Whether it still publishes. Raises QtsegError where the server has never taken anything."""
        if session.error is not None:
            self._session = None
            self._retry_at = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
            self._lost(session.error)
        elif session.is_stuck:
            self._lost(TimeoutError(_TAKES_NOTHING))
        elif session.has_published:
            if self._is_lost:
                _log.warning("%s: publishing again", self.name)
            self._was_published, self._is_lost, self._pause = True, False, _FIRST_PAUSE_SECONDS

    def _lost(self, error: Exception) -> None:
        if not self._was_published:
            raise QtsegError(
                f"{self.name}: the server does not take the stream ({reason_of(error)}); "
                "check that publishing to this path is allowed, and the user and password in the address"
            ) from error
        if not self._is_lost:
            _log.warning("%s: not published any more (%s); trying again", self.name, reason_of(error))
        self._is_lost = True

    def _require_server(self) -> None:
        """Something at the address speaks RTSP. Whether it takes the stream is known with the first picture."""
        try:
            parts = urlsplit(self._address)
            host, port = parts.hostname, parts.port or _PORT
        except ValueError as error:  # its text may hold a part of the password
            raise UsageError(f"--output {self.name}: wanted rtsp://HOST:PORT/PATH") from error
        if not host or not parts.path.strip("/"):
            raise UsageError(f"--output {self.name}: wanted rtsp://HOST:PORT/PATH")
        try:
            answer = _asked(host, port)
        except OSError as error:
            raise QtsegError(
                f"{self.name}: no media server there ({reason_of(error)}); start one, such as MediaMTX, or correct the address"
            ) from error
        if not answer.startswith(b"RTSP/"):
            raise QtsegError(f"{self.name}: what answers there does not speak RTSP; correct the port (MediaMTX listens on 8554)")


class _Session:
    """One publication, from ANNOUNCE to TEARDOWN, in a thread of its own: FFmpeg waits for a server that takes nothing once per packet,
    which is a minute for a large picture. It gets the newest picture only.

    error: why it has ended by itself. has_published: the server has taken a picture. A session that is stuck ends sooner or later.
    """

    def __init__(self, address: str, size_hw: tuple[int, int], info: SourceInfo) -> None:
        self.error: Exception | None = None
        self.has_published = False
        self._sending_since: float | None = None
        self._address, self._size_hw, self._info = address, size_hw, info
        self._pictures: Handoff[NDArray[np.uint8]] = Handoff(1, "latest")
        self._thread = threading.Thread(target=self._run, name="rtsp publisher", daemon=True)
        self._thread.start()

    @property
    def is_stuck(self) -> bool:
        since = self._sending_since
        return self.has_published and since is not None and time.monotonic() - since > _TIMEOUT_SECONDS

    def put(self, picture: NDArray[np.uint8]) -> None:
        """Never waits; nothing after the session has ended."""
        with suppress(HandoffClosedError):
            self._pictures.put(picture)

    def close(self) -> None:
        """Waits for the last picture, but not for a server that does not answer."""
        self._pictures.finish()
        self._thread.join(_TIMEOUT_SECONDS)

    def _run(self) -> None:
        try:
            self._publish_all()
        except HandoffClosedError:
            pass
        except Exception as error:
            self.error = error
        finally:
            self._pictures.cancel()

    def _publish_all(self) -> None:
        options = {"rtsp_transport": "tcp", "timeout": str(int(_TIMEOUT_SECONDS * 1e6))}
        container: OutputContainer = av.open(self._address, "w", format="rtsp", options=options)
        try:
            encoder = H264Encoder(
                container, self._size_hw, _OPTIONS, rate=self._info.rate, time_base=_TIME_BASE, pixel_aspect=self._info.pixel_aspect
            )
            started, last_pts = time.monotonic(), -1
            while True:
                picture = self._pictures.get()
                last_pts = max(round((time.monotonic() - started) / _TIME_BASE), last_pts + 1)
                packets = encoder.encode(picture, last_pts)
                self._sending_since = time.monotonic()
                container.mux(packets)
                if self.is_stuck:
                    raise TimeoutError(_TAKES_NOTHING)  # FFmpeg has left out a packet without a word
                self._sending_since = None
                self.has_published = self.has_published or bool(packets)
        finally:
            with suppress(FFmpegError, OSError):  # a server that is gone cannot be told
                container.close()


def _asked(host: str, port: int) -> bytes:
    """The beginning of what answers to OPTIONS."""
    with socket.create_connection((host, port), _TIMEOUT_SECONDS) as connection:
        connection.settimeout(_TIMEOUT_SECONDS)
        connection.sendall(f"OPTIONS rtsp://{host}:{port}/ RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
        return connection.recv(64)
