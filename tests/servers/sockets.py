"""A server of a few lines: what it does with a connection is the test's."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Handler = Callable[[socket.socket], None]


class Listening:
    """handler: gets each connection in a thread of its own, and ends soon after it was closed. Errors of a connection end it."""

    def __init__(self, handler: Handler, port: int = 0) -> None:
        self._handler = handler
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self.accepted = 0
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, name="acceptor")
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), name="connection"))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._handler(connection)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(10)
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


@contextmanager
def listening(handler: Handler, port: int = 0) -> Iterator[Listening]:
    server = Listening(handler, port)
    try:
        yield server
    finally:
        server.close()


def request_of(connection: socket.socket) -> str:
    """The head of an HTTP or RTSP request, empty where the other side has hung up."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        if not (more := connection.recv(1)):
            return ""
        head += more
    return head.decode()


def noise(connection: socket.socket) -> None:
    """Random bytes to whatever is asked."""
    connection.recv(4096)
    while True:
        connection.sendall(os.urandom(4096))


def rtsp_then_noise(connection: socket.socket) -> None:
    """Answers as an RTSP server up to the pictures, which are random bytes in frames of the right form, then not even that."""
    media = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:stream=0\r\n"
    rng = random.Random(0)
    while (request := request_of(connection)).startswith(("OPTIONS", "DESCRIBE", "SETUP", "PLAY")):
        method = request.split()[0]
        number = next(line for line in request.splitlines() if line.lower().startswith("cseq"))
        heads, body = {"OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY"}, ""
        if method == "DESCRIBE":
            body, heads["DESCRIBE"] = media, f"Content-Type: application/sdp\r\nContent-Length: {len(media)}"
        heads["SETUP"] = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1"
        head = heads.get(method, "Session: 1")
        connection.sendall(f"RTSP/1.0 200 OK\r\n{number}\r\n{head}\r\n\r\n{body}".encode())
        if method == "PLAY":
            break
    for sequence in range(400):
        payload = bytes([0x80, 0xE0]) + sequence.to_bytes(2, "big") + (3600 * sequence).to_bytes(4, "big") + bytes(4)
        payload += bytes([rng.choice([0x65, 0x41, 0x67, 0x68])]) + rng.randbytes(700)
        connection.sendall(b"$\x00" + len(payload).to_bytes(2, "big") + payload)
    noise(connection)
