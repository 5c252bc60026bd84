"""One viewer of one stream: it asks, it gets the newest, and whatever it is too slow for it never gets.

The viewer sends `picture` or `status`, and is answered with one binary message: the length of a JSON text (4 bytes, big-endian) and the
text; for a picture also the length of a JPEG, the JPEG, and a PNG that says where its mask is (`picture.Picture`). Picture and mask are of
the same frame because they are in the same message.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from qtseg_edge.runtime.web.status import Figures, stream_status
from qtseg_edge.runtime.web.view import ServerEnds, Shot, WebView

PICTURE, STATUS = "picture", "status"
_ANSWER_SECONDS = 0.5  # without anything new there is still an answer: the page knows by it that the server lives
_PAUSE_SECONDS = 0.25  # between two answers to `status`, and between two reports of figures and events
_SILENT_SECONDS = 30.0  # a viewer that asks for nothing gives its place to others
_SEND_SECONDS = 10.0  # as does one that takes nothing


async def serve(socket: WebSocket, view: WebView, figures: Figures, run: str) -> None:
    """Until the viewer goes. run: tells one run from another."""
    await socket.accept()
    viewer = _Viewer(view, figures, run)
    watches = False
    try:
        while True:
            wish = await asyncio.wait_for(socket.receive_text(), _SILENT_SECONDS)
            asked = time.perf_counter()
            if wish not in (PICTURE, STATUS):
                await socket.close(1008)
                return
            if watches is not (wish == PICTURE):
                watches = wish == PICTURE
                view.watchers += 1 if watches else -1
            await asyncio.wait_for(socket.send_bytes(await viewer.answer(wish, asked)), _SEND_SECONDS)
    except (WebSocketDisconnect, ServerEnds, asyncio.TimeoutError, KeyError):  # KeyError: bytes, where text was wanted
        return
    finally:
        view.watchers -= watches


class _Viewer:
    """What one viewer has been told."""

    def __init__(self, view: WebView, figures: Figures, run: str) -> None:
        self._view, self._figures, self._run = view, figures, run
        self._seen = 0
        self._reported_at, self._events_revision = 0.0, -1

    async def answer(self, wish: str, asked: float) -> bytes:
        if wish == STATUS:
            await asyncio.sleep(_PAUSE_SECONDS)
        shot = await self._view.newer(self._seen, wish == PICTURE, _ANSWER_SECONDS)
        header = self._header(shot)
        picture = shot.picture if shot is not None and header["signal"] and wish == PICTURE else None
        header |= {"waited_ms": _ms(time.perf_counter() - asked), "has_picture": picture is not None}
        if picture is None:
            return _packed(json.dumps(header).encode())
        header |= {"width": picture.size_wh[0], "height": picture.size_wh[1], "box": picture.box}
        return _packed(json.dumps(header).encode()) + _packed(picture.jpeg) + picture.levels

    def _header(self, shot: Shot | None) -> dict[str, Any]:
        """Of a shot that is new to this viewer, else of the silence since."""
        latest = shot or self._view.latest
        self._seen = latest.number if shot else self._seen
        signal = latest.has_signal and not latest.is_stale
        header: dict[str, Any] = {"run": self._run, "signal": signal, "is_new": shot is not None}
        if signal:
            header |= {"age_ms": _ms(time.perf_counter() - latest.captured_at), "share": round(latest.share, 5)}
            header |= {"frame": latest.index, "time_s": round(latest.time_s, 3)}
        else:
            header["reason"] = self._reason(latest)
        return header | self._report()

    def _reason(self, shot: Shot) -> str:
        streams = self._figures.fresh().streams
        status = streams[self._view.number].status if self._view.number < len(streams) else None
        if status is not None and not status.up and status.reason:
            return status.reason
        return shot.reason or f"no picture for {time.perf_counter() - shot.made_at:.0f} s"

    def _report(self) -> dict[str, Any]:
        """Figures and events, not with every picture."""
        now, events = time.perf_counter(), self._view.events
        if now - self._reported_at < _PAUSE_SECONDS:
            return {}
        self._reported_at = now
        report: dict[str, Any] = {"status": stream_status(self._figures.recent(), self._view.number)}
        if events.revision != self._events_revision:
            self._events_revision = events.revision
            report["events"] = events.rows()
        return report


def _packed(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 1)
