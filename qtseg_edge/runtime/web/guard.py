"""What every request has to pass, and what every answer carries."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qtseg_edge.runtime.web.address import is_local_name
from qtseg_edge.runtime.web.auth import Access, TooManyFailures

LARGEST_BODY = 2048
_LONGEST_PATH, _LARGEST_HEADERS = 256, 8192  # bytes
_OPEN = frozenset({"/healthz", "/login"})  # and /static/, which holds nothing but the program
_log = logging.getLogger(__name__)

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser sends the login form with the Origin "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), fullscreen=(self)",
    "Cache-Control": "no-store",
}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]


class Guard:
    """cookie: name of the one that holds the session."""

    def __init__(self, app: ASGIApp, access: Access, cookie: str) -> None:
        self._app, self._access, self._cookie = app, access, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start", "websocket.accept"):
                _add_headers(message)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """What is answered instead of what was asked for; None where it may be."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(scope["raw_path"]) > _LONGEST_PATH:
            return PlainTextResponse("this address is too long\n", 414)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _LARGEST_HEADERS:
            return PlainTextResponse("the headers of this request are too large\n", 431)
        if not host or (self._access.is_open and not is_local_name(host)):
            return PlainTextResponse("this server answers to localhost only; set a token to give it another name\n", 421)
        if _is_too_large(headers):
            return PlainTextResponse("this request is too large\n", 413, {"Connection": "close"})
        if _is_foreign(scope, headers, host):
            return PlainTextResponse("this request comes from another site's page\n", 403)
        return self._unauthorised(scope)

    def _unauthorised(self, scope: Scope) -> Response | None:
        path: str = scope["path"]
        if self._access.is_open or path in _OPEN or path.startswith("/static/"):
            return None
        connection = HTTPConnection(scope)
        if self._access.admits_session(connection.cookies.get(self._cookie, "")):
            return None
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._unauthorised_bearer(token.strip(), client_of(scope))
        if path == "/":
            return RedirectResponse("/login", 303)
        return PlainTextResponse("this needs the token\n", 401, {"WWW-Authenticate": "Bearer"})

    def _unauthorised_bearer(self, token: str, client: str) -> Response | None:
        try:
            if self._access.admits_token(token, client):
                return None
        except TooManyFailures as error:
            return too_many(error)
        note_failure(client)
        return PlainTextResponse("this is not the token\n", 401, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def too_many(error: TooManyFailures) -> Response:
    text = f"too many wrong tokens from this address; try again in {error.seconds} s\n"
    return PlainTextResponse(text, 429, {"Retry-After": str(error.seconds)})


def client_of(scope: Scope) -> str:
    """IP address."""
    client = scope.get("client")
    return client[0] if client else ""


def note_failure(client: str) -> None:
    _log.warning("web: a wrong token from %s", client)


def _add_headers(message: MutableMapping[str, Any]) -> None:
    message["headers"] = [*message.get("headers", ()), *_RAW_HEADERS]


def _is_too_large(headers: Headers) -> bool:
    length = headers.get("content-length", "0")
    return "transfer-encoding" in headers or not length.isdecimal() or len(length) > 9 or int(length) > LARGEST_BODY


def _is_foreign(scope: Scope, headers: Headers, host: str) -> bool:
    """Only browsers send an Origin, and they send it where the answer could be used by another site's page."""
    origin = headers.get("origin")
    if origin is None or (scope["type"] == "http" and scope["method"] in ("GET", "HEAD")):
        return False
    try:
        return urlsplit(origin).netloc.lower() != host.lower()
    except ValueError:
        return True
