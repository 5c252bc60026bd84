"""uvicorn's HTTP with a time limit on everything that a client can do slowly, and a limit on connections."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 128
_REQUEST_SECONDS = 10.0  # for the head of a request, counted from the connection or the answer before
_ANSWER_SECONDS = 20.0  # from there until its answer has been taken


class LimitedProtocol(H11Protocol):
    """uvicorn itself only limits how long a connection may be silent between two requests."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._allow(_REQUEST_SECONDS)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.cycle.response_complete:
            self._allow(_ANSWER_SECONDS)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._allow(None)
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._allow(_REQUEST_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._allow(None)
        super().connection_lost(exc)

    def _allow(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)
