"""The web server of a run, in a thread of its own."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING

import uvicorn

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.frames import SourceInfo
from qtseg_edge.runtime.monitor import Monitor
from qtseg_edge.runtime.web.address import Address, listening, parse_address, proxies_from_environment, token_from_environment
from qtseg_edge.runtime.web.app import WebApp
from qtseg_edge.runtime.web.auth import Access
from qtseg_edge.runtime.web.protocol import MAX_CONNECTIONS, LimitedProtocol
from qtseg_edge.runtime.web.view import Bell, WebView
from qtseg_edge.spec import ModelCard

if TYPE_CHECKING:
    from typing_extensions import Self

_START_SECONDS = 10.0
_POLITE_SECONDS = 0.3  # for viewers to be told that it ends; then their connections are cut
_STOP_SECONDS = 1.0
_LARGEST_WISH = 64  # bytes of a message of a viewer; it asks for `picture` or `status`
_PING_SECONDS = 10.0
_LARGEST_HEAD = 8192  # bytes of a request before its body


class WebServer:
    """Serves while it is entered. One for all streams of a run.

    address: where it listens, known once entered.
    """

    def __init__(self, text: str, monitor: Monitor, ready_age_s: float) -> None:
        """text: `web://HOST:PORT`. The token and the proxies, if there are any, come from the environment. Raises UsageError."""
        self.address = parse_address(text)
        self._token, self._proxies = token_from_environment(), proxies_from_environment()
        self._monitor, self._ready_age_s = monitor, ready_age_s
        self._bell = Bell()
        self._views: list[WebView] = []
        self._server: uvicorn.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread: threading.Thread | None = None

    def view(self, info: SourceInfo, stream: int, card: ModelCard, threshold: float) -> WebView:
        """The output of a stream; it must be the run's, in `web://` and in number. threshold: of the run (`Segmenter.threshold`)."""
        view = WebView(f"web://{self.address}", info, stream, card, threshold, self._bell)
        self._views.append(view)
        return view

    def __enter__(self) -> Self:
        """Raises UsageError where the address is no place to be without a token, QtsegError where it is taken."""
        listener = listening(self.address, self._token is not None)
        self.address = Address(self.address.host, listener.getsockname()[1])
        cookie = f"qtseg_edge_{self.address.port}"  # browsers keep the cookies of all ports of a host together
        app = WebApp(self._views, self._monitor, Access(self._token), secrets.token_hex(8), cookie, self._ready_age_s)
        self._server = uvicorn.Server(_config(app, self._proxies))
        self._thread = threading.Thread(target=self._run, args=(self._server, listener), name="web server", daemon=True)
        self._thread.start()
        if not self._started.wait(_START_SECONDS) or not self._server.started:
            raise QtsegError(f"web://{self.address}: the server does not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Ends within a second, whatever the viewers do."""
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop)
            self._thread.join(_STOP_SECONDS)

    def _run(self, server: uvicorn.Server, listener: socket.socket) -> None:
        try:
            asyncio.run(self._serve(server, listener))
        finally:
            self._started.set()

    async def _serve(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._bell.hang()
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        self._started.set()
        await serving

    def _stop(self) -> None:
        assert self._server is not None and self._loop is not None
        self._server.should_exit = True
        self._bell.end()
        self._loop.call_later(_POLITE_SECONDS, self._cut)

    def _cut(self) -> None:
        assert self._server is not None
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()


def _config(app: WebApp, proxies: list[str]) -> uvicorn.Config:
    return uvicorn.Config(
        app.asgi(),
        loop="asyncio",
        http=LimitedProtocol,
        ws="websockets-sansio",
        ws_max_size=_LARGEST_WISH,
        ws_ping_interval=_PING_SECONDS,
        ws_ping_timeout=_PING_SECONDS,
        ws_per_message_deflate=False,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=_LARGEST_HEAD,
    )
