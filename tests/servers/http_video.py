"""Video over HTTP: answers to be given to `listening`."""

from __future__ import annotations

import base64
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np

from tests.servers.clock_picture import HEIGHT, RATE, WIDTH, clock_picture
from tests.servers.sockets import Handler, request_of


def answer(head: str, body: bytes = b"", *, login: str = "") -> Handler:
    """head: status and header lines. login: `user:password` without which the answer is 401."""

    def handler(connection: socket.socket) -> None:
        request = request_of(connection)
        if login and base64.b64encode(login.encode()).decode() not in request:
            connection.sendall(b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n')
        else:
            connection.sendall(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode() + body)

    return handler


def file(data: bytes, *, sent: int | None = None, login: str = "") -> Handler:
    """With its length; only the first `sent` bytes come."""
    return answer(f"200 OK\r\nContent-Type: video/mp4\r\nContent-Length: {len(data)}", data[:sent], login=login)


def parts(count: int = 10**9) -> Handler:
    """MJPEG, as webcams have it, at RATE."""

    def handler(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n")
        for _ in range(count):
            picture = cv2.imencode(".jpg", clock_picture())[1].tobytes()
            connection.sendall(f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n".encode() + picture + b"\r\n")
            time.sleep(1 / RATE)

    return handler


class TransportStream:
    """MPEG-TS of `clock_picture` at RATE, without a length. changed: what becomes of the bytes on their way.

    hold: while set, the pictures are made and kept back, as by a network that does not get them through; then all come at once.
    """

    def __init__(self, changed: Callable[[bytes], bytes] = bytes, b_frames: int = 0) -> None:
        self._changed, self._b_frames = changed, b_frames
        self.hold = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
        kept = bytearray()
        with suppress(OSError):
            for data in live_stream(self._b_frames):
                kept += self._changed(data)
                if not self.hold.is_set():
                    connection.sendall(kept)
                    kept.clear()


def live_stream(b_frames: int) -> Iterator[bytes]:
    """MPEG-TS, a picture at a time."""
    buffer = io.BytesIO()
    options = {"preset": "ultrafast", "g": "15", "bf": str(b_frames)} | ({} if b_frames else {"tune": "zerolatency"})
    with av.open(buffer, "w", format="mpegts", options={"flush_packets": "1"}) as out:
        stream: Any = out.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        started, last = time.monotonic(), -1
        while True:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(clock_picture()), format="gray").reformat(format="yuv420p")
            last = max(last + 1, round((time.monotonic() - started) * 1000))
            picture.pts, picture.time_base = last, Fraction(1, 1000)
            out.mux(stream.encode(picture))
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
            time.sleep(1 / RATE)
