"""A run with a web server: moving pictures with a red lesion that stays where it is, segmented by the fake backend, on a real port."""

from __future__ import annotations

import json
import struct
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from fractions import Fraction
from http.client import HTTPMessage
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.sync.client import ClientConnection, connect

from qtseg_edge.runtime.fake import FakeBackend
from qtseg_edge.runtime.frames import Frame, SourceInfo, SourceStatus
from qtseg_edge.runtime.monitor import LATE, Monitor
from qtseg_edge.runtime.overlay import Overlay
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.segmenter import Segmentation, Segmenter
from qtseg_edge.runtime.sink_worker import SinkWorker
from qtseg_edge.runtime.temporal.filter import TemporalFilter
from qtseg_edge.runtime.web import web_server
from qtseg_edge.runtime.web.address import TOKEN_VARIABLE
from qtseg_edge.runtime.web.view import WebView
from tests.media import numbered_frame

SIZE_HW = (240, 320)
LESION_XYXY = (60, 80, 140, 160)  # its left half is red by 180 of 255, its right half by 245
FAINT_XY, BRIGHT_XY, BESIDE_XY = (80, 120), (120, 120), (200, 200)
TOKEN = "an-example-token-that-is-long-enough"
PATIENCE = 20.0  # seconds that a busy machine may take


def scene(index: int, lesion: bool = True) -> NDArray[np.uint8]:
    """RGB, its number in the top row; nothing but the lesion is red."""
    frame = numbered_frame(index % 256, SIZE_HW)
    frame[SIZE_HW[0] - 30 :] = (60, 90, 80)  # over the red square of those frames
    if lesion:
        left, top, right, bottom = LESION_XYXY
        frame[top:bottom, left:right] = (180, 20, 30)
        frame[top:bottom, (left + right) // 2 : right] = (245, 20, 30)
    return frame


@dataclass
class Answer:
    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


@dataclass
class Message:
    """What a viewer got."""

    header: dict[str, Any]
    jpeg: bytes = b""
    png: bytes = b""

    @property
    def picture(self) -> NDArray[np.uint8]:
        """RGB."""
        return cv2.cvtColor(cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(np.uint8)

    @property
    def levels(self) -> NDArray[np.uint8]:
        return cv2.imdecode(np.frombuffer(self.png, np.uint8), cv2.IMREAD_UNCHANGED).astype(np.uint8)


def parsed(data: bytes | str) -> Message:
    assert isinstance(data, bytes)
    (size,) = struct.unpack_from(">I", data)
    header = json.loads(data[4 : 4 + size])
    if not header["has_picture"]:
        assert len(data) == 4 + size
        return Message(header)
    (jpeg_size,) = struct.unpack_from(">I", data, 4 + size)
    start = 8 + size
    return Message(header, data[start : start + jpeg_size], data[start + jpeg_size :])


@dataclass
class Channel:
    """One stream of the run. What the test changes here, the next frame shows."""

    view: WebView
    worker: SinkWorker
    temporal: TemporalFilter
    status: SourceStatus = field(default_factory=SourceStatus)
    lesion: bool = True


class Site:
    """feeds: while it is set, every stream gets a frame every 40 ms."""

    def __init__(self, streams: int = 1, host: str = "127.0.0.1", port: int = 0) -> None:
        self.backend = FakeBackend()
        self.segmenter = Segmenter(self.backend)
        card = self.backend.spec.card
        self.monitor = Monitor(self.backend.name, card.name)
        server = web_server([f"web://{host}:{port}"], self.monitor)
        assert server is not None
        self.server = server.__enter__()
        self.errors: list[BaseException] = []
        self.channels: list[Channel] = []
        self.frames = 0
        self.feeds = threading.Event()
        self._overlay, self._classes = Overlay(card.colours_rgb, 0.4), card.classes
        self._over, self._thread = threading.Event(), threading.Thread(target=self._feed, daemon=True)
        self._started = time.perf_counter()
        for number in range(streams):
            self._open(number)

    @property
    def url(self) -> str:
        return f"http://{self.server.address}"

    def _open(self, number: int) -> None:
        info = SourceInfo(f"rtsp://***@tower-{number + 1}/live", Fraction(25), Fraction(1, 25), None, live=True)
        view = self.server.view(info, number, self.backend.spec.card, self.segmenter.threshold)
        worker = SinkWorker(view, info, self.monitor, lambda _, error: self.errors.append(error), lambda: None)
        channel = Channel(view, worker, TemporalFilter(2, self.segmenter.cut))
        self.monitor.add_stream(info.name, lambda: channel.status)
        self.channels.append(channel)

    def start(self) -> Site:
        self.feeds.set()
        self._thread.start()
        return self

    def push(self, number: int = 0, *, age_s: float = 0.0) -> Result:
        """One frame. age_s: how long ago it was captured."""
        channel = self.channels[number]
        signal = channel.status.up
        rgb = scene(self.frames, channel.lesion) if signal else np.zeros((*SIZE_HW, 3), np.uint8)
        captured = time.perf_counter() - age_s
        time_s = Fraction(captured - self._started).limit_denominator(10**6)
        frame = Frame(rgb, self.frames, max(time_s, Fraction(0)), channel.view.info.name, 1.0, captured, signal)
        self.frames += 1
        prepared = self.segmenter.prepare(rgb)
        masks = None if prepared.is_flat else self.backend.infer(prepared.image)
        filtered = channel.temporal.update(masks, prepared, frame)
        mask, confidence = self.segmenter.restore(prepared, filtered.masks)
        segmentation = Segmentation(mask, confidence, 0.1, 2.0, 0.1)
        done = time.perf_counter()
        result = Result(frame, segmentation, self._overlay, self._classes, filtered.tracks, filtered.events, number, done)
        self.monitor.segmented(result)
        if signal:
            self.monitor.latency("infer", 2.0)
        channel.worker.put(result)
        return result

    def _feed(self) -> None:
        while not self._over.wait(0.04):
            if self.feeds.is_set():
                for number in range(len(self.channels)):
                    self.push(number)

    def drop(self, frames: int) -> None:
        self.monitor.dropped(0, LATE, frames)

    def get(self, path: str, *, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """headers: `Cookie`, or `X_Name` for X-Name. Redirects are not followed."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, named, method=method)
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=PATIENCE) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def watch(self, stream: int = 0, **options: Any) -> ClientConnection:
        """A viewer's connection, to be closed by the caller."""
        return connect(f"ws://{self.server.address}/streams/{stream}/live", open_timeout=PATIENCE, close_timeout=1, proxy=None, **options)

    def close(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)
        for channel in self.channels:
            channel.worker.finish()
            assert channel.worker.join(PATIENCE)
        self.server.__exit__(None, None, None)
        assert self.errors == []

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ask(viewer: ClientConnection, wish: str = "picture") -> Message:
    viewer.send(wish)
    return parsed(viewer.recv(timeout=PATIENCE))


def ask_until(viewer: ClientConnection, wanted: Any, wish: str = "picture") -> Message:
    """Ask until `wanted(message)`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        message = ask(viewer, wish)
        if wanted(message):
            return message
    pytest.fail(f"it did not come; the last message was {message.header}")


def use_token(monkeypatch: pytest.MonkeyPatch, token: str | None = TOKEN) -> None:
    if token is None:
        monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(TOKEN_VARIABLE, token)
