"""The addresses that the server answers to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from qtseg_edge.runtime.frames import STALE_SECONDS
from qtseg_edge.runtime.monitor import Monitor
from qtseg_edge.runtime.web import viewer
from qtseg_edge.runtime.web.auth import SESSION_SECONDS, Access, TooManyFailures
from qtseg_edge.runtime.web.guard import LARGEST_BODY, Guard, client_of, note_failure, too_many
from qtseg_edge.runtime.web.metrics import CONTENT_TYPE, Metrics
from qtseg_edge.runtime.web.status import Figures, unique, unready
from qtseg_edge.runtime.web.view import WebView
from qtseg_edge.spec import NOTICE

MAX_VIEWERS = 32  # of all streams together; each costs one picture in memory and its share of the network
_BODY_SECONDS = 5.0
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_REFUSAL = b'<p class="refusal" role="alert">That is not the token.</p>'


class WebApp:
    """views: of the streams, in their order; may grow. run: tells one run from another. Used by one event loop."""

    def __init__(self, views: list[WebView], monitor: Monitor, access: Access, run: str, cookie: str, ready_age_s: float) -> None:
        self._views, self._monitor, self._access, self._run, self._cookie = views, monitor, access, run, cookie
        self._ready_age_s = ready_age_s
        self._figures, self._metrics = Figures(monitor), Metrics(monitor)
        folder = Path(__file__).with_name("static")
        self._files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in _KINDS}
        self._viewers = 0

    def asgi(self) -> ASGIApp:
        routes = [
            Route("/", self._page),
            Route("/login", self._login_page, methods=["GET"]),
            Route("/login", self._login, methods=["POST"]),
            Route("/static/{name}", self._file),
            Route("/streams", self._streams),
            Route("/streams/{stream}/events/{event}.jpg", self._event_picture),
            WebSocketRoute("/streams/{stream}/live", self._live),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics_text),
        ]
        return Guard(Starlette(routes=routes), self._access, self._cookie)

    async def _page(self, _: Request) -> Response:
        return self._static("index.html")

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        return self._static(name) if name in self._files else PlainTextResponse("no such file\n", 404)

    async def _login_page(self, _: Request) -> Response:
        return RedirectResponse("/", 303) if self._access.is_open else self._static("login.html")

    async def _login(self, request: Request) -> Response:
        client = client_of(request.scope)
        try:
            form = await asyncio.wait_for(_form(request), _BODY_SECONDS)
            is_known = self._access.admits_token(form.get("token", ""), client)
        except TooManyFailures as error:
            return too_many(error)
        except (asyncio.TimeoutError, ValueError):
            return PlainTextResponse("wanted a form with a token\n", 400, {"Connection": "close"})
        if not is_known:
            note_failure(client)
            return self._static("login.html", 401, _REFUSAL)
        response = RedirectResponse("/", 303)
        session, secure = self._access.new_session(), request.url.scheme == "https"  # as a proxy with TLS says that it was
        response.set_cookie(self._cookie, session, max_age=SESSION_SECONDS, httponly=True, secure=secure, samesite="strict")
        return response

    async def _streams(self, _: Request) -> Response:
        """What does not change while the run goes on."""
        views = list(self._views)
        names = unique([view.info.name for view in views])
        streams = [
            {
                "number": view.number,
                "name": name,
                "live": view.info.live,
                "classes": view.card.classes,
                "colours": view.card.colours_rgb,
                "threshold": view.threshold if len(view.card.classes) == 2 else 0.0,
            }
            for name, view in zip(names, views, strict=True)
        ]
        return JSONResponse({"run": self._run, "notice": NOTICE, "stale_ms": STALE_SECONDS * 1e3, "streams": streams})

    async def _event_picture(self, request: Request) -> Response:
        view, event = self._view(request.path_params["stream"]), _number(request.path_params["event"])
        picture = view.events.picture(event) if view and event is not None else None
        return Response(picture, media_type="image/jpeg") if picture else PlainTextResponse("no such event any more\n", 404)

    async def _live(self, socket: WebSocket) -> None:
        view = self._view(socket.path_params["stream"])
        if view is None:
            await PlainTextResponse("no such stream\n", 404)(socket.scope, socket.receive, socket.send)
        elif self._viewers >= MAX_VIEWERS:
            await PlainTextResponse("too many viewers; close a page that nobody looks at\n", 503)(socket.scope, socket.receive, socket.send)
        else:
            self._viewers += 1
            try:
                await viewer.serve(socket, view, self._figures, self._run)
            finally:
                self._viewers -= 1

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def _readyz(self, _: Request) -> Response:
        reasons = unready(self._monitor.snapshot(), self._ready_age_s)
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def _metrics_text(self, _: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    def _view(self, text: str) -> WebView | None:
        number = _number(text)
        return next((view for view in self._views if view.number == number), None)

    def _static(self, name: str, status: int = 200, refusal: bytes = b"") -> Response:
        content = self._files[name].replace(b"<!--refusal-->", refusal)
        return Response(content, status, media_type=_KINDS[Path(name).suffix])


async def _form(request: Request) -> dict[str, str]:
    """Raises ValueError where it is too large, or no form of single values."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise ValueError
    return {name: values[0] for name, values in parse_qs(body.decode(), max_num_fields=4).items()}


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
