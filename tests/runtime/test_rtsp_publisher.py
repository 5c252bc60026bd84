"""Publishing to a real media server: Debian's GStreamer RTSP server, which is killed, frozen and started again."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks import open_sink
from qtseg_edge.runtime.sinks.rtsp_publisher import RtspPublisher
from tests.media import number_of, numbered_frame
from tests.runtime.stand_ins import info, result_of

DEBIAN_PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).with_name("rtsp_recorder.py")
LOGGER = "qtseg_edge.runtime.sinks.rtsp_publisher"
PATIENCE = 15.0  # seconds that a busy machine may take


class MediaServer:
    """Writes what is published to `path`."""

    def __init__(self, path: Path, port: int = 0, *login: str) -> None:
        self.path = path
        command = [DEBIAN_PYTHON, str(SCRIPT), str(port), str(path), *login]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.address = f"rtsp://127.0.0.1:{self.port}/live"

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)

    @property
    def pictures(self) -> list[NDArray[np.uint8]]:
        """What has arrived so far."""
        if not self.path.exists() or not self.path.stat().st_size:
            return []
        with av.open(str(self.path), format="h264") as file:
            return [picture.to_ndarray(format="rgb24") for picture in file.decode(video=0)]

    @property
    def numbers(self) -> list[int]:
        return [number_of(picture) for picture in self.pictures]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., MediaServer]]:
    """Starts a server at a port, or one that the system chooses; user and password where it wants them."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if not Path(DEBIAN_PYTHON).exists() or subprocess.run([DEBIAN_PYTHON, "-c", probe], capture_output=True, timeout=60).returncode:
        pytest.skip("no GStreamer RTSP server; get it with: apt install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-bad")
    servers: list[MediaServer] = []

    def start(port: int = 0, *login: str) -> MediaServer:
        servers.append(MediaServer(tmp_path / f"{len(servers)}.h264", port, *login))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def drawn(index: int) -> Result:
    result = result_of(numbered_frame(index), index=index)
    assert result.picture is not None
    return result


def published(sink: RtspPublisher, until: Callable[[], bool], first: int = 0) -> int:
    """Write a frame after the other, as from a camera, until something holds. The number of the next one. No write may wait."""
    deadline = time.monotonic() + PATIENCE
    index = first
    while not until():
        assert time.monotonic() < deadline, "it did not happen"
        started = time.monotonic()
        sink.write(drawn(index))
        assert time.monotonic() - started < 0.7
        index += 1
        time.sleep(0.04)
    return index


def require_rising(numbers: list[int]) -> None:
    assert numbers == sorted(set(numbers)), numbers


@pytest.mark.usefixtures("no_thread_is_left")
def test_a_media_server_gets_every_picture(start: Callable[..., MediaServer]) -> None:
    server = start()
    sink = open_sink(server.address, info())
    assert isinstance(sink, RtspPublisher)
    assert (sink.is_view, sink.needs_picture) == (True, True)
    published(sink, lambda: len(server.numbers) >= 20)
    sink.close()
    require_rising(server.numbers)
    picture = server.pictures[5]
    assert np.abs(picture.astype(np.int16)[16:, :] - drawn(server.numbers[5]).picture[16:, :]).mean() < 6


@pytest.mark.usefixtures("no_thread_is_left")
def test_a_server_that_is_killed_and_started_again_gets_the_newest(
    start: Callable[..., MediaServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    server = start()
    sink = RtspPublisher(server.address, info())
    index = published(sink, lambda: len(server.numbers) >= 5)
    server.stop()
    index = published(sink, lambda: "not published any more" in caplog.text, index)
    again = start(server.port)
    published(sink, lambda: len(again.numbers) >= 5, index)
    sink.close()
    require_rising(again.numbers)
    assert again.numbers[0] >= index
    assert "publishing again" in caplog.text


@pytest.mark.usefixtures("no_thread_is_left")
def test_a_server_that_freezes_holds_nobody_up(start: Callable[..., MediaServer], caplog: pytest.LogCaptureFixture) -> None:
    """Its side of the connection stays open and takes nothing."""
    caplog.set_level(logging.WARNING, LOGGER)
    server = start()
    sink = RtspPublisher(server.address, info())
    noise = [result_of(np.random.default_rng(seed).integers(0, 256, (720, 1280, 3), dtype=np.uint8)) for seed in range(3)]
    assert all(result.picture is not None for result in noise)
    slowest, deadline = 0.0, time.monotonic() + PATIENCE
    frozen, written = False, 0
    while "not published any more" not in caplog.text:
        assert time.monotonic() < deadline
        started = time.monotonic()
        sink.write(noise[written % 3])
        slowest = max(slowest, time.monotonic() - started)
        written += 1
        time.sleep(0.03)
        if not frozen and server.path.exists() and server.path.stat().st_size:
            server.process.send_signal(signal.SIGSTOP)
            frozen = True
    assert slowest < 0.7
    started = time.monotonic()
    sink.close()
    assert time.monotonic() - started < 1.5
    server.process.send_signal(signal.SIGCONT)


def test_whoever_looks_sees_no_old_picture(start: Callable[..., MediaServer]) -> None:
    server = start()
    sink = RtspPublisher(server.address, info())
    sink.starved()  # nothing is known yet: no size, no picture
    published(sink, lambda: len(server.pictures) >= 3)
    deadline = time.monotonic() + PATIENCE
    while server.pictures[-1][16:].mean() > 20:
        assert time.monotonic() < deadline
        sink.starved()
        time.sleep(0.1)
    assert server.pictures[-1].max() > 100  # NO SIGNAL
    sink.close()


def test_pictures_of_another_size_are_scaled_to_fit(start: Callable[..., MediaServer]) -> None:
    server = start()
    sink = RtspPublisher(server.address, info())
    published(sink, lambda: len(server.pictures) >= 3)
    large = result_of(np.full((96, 128, 3), 200, np.uint8))
    deadline = time.monotonic() + PATIENCE
    while server.pictures[-1].mean() < 150:
        assert time.monotonic() < deadline
        sink.write(large)
        time.sleep(0.1)
    assert server.pictures[-1].shape == (48, 64, 3)
    sink.close()


def test_a_password_opens_the_door_and_is_never_told(start: Callable[..., MediaServer], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    server = start(0, "user", "secret")
    sink = RtspPublisher(server.address.replace("127", "user:secret@127"), info())
    published(sink, lambda: len(server.numbers) >= 3)
    server.stop()
    published(sink, lambda: "not published any more" in caplog.text)
    sink.close()
    assert "secret" not in sink.name + caplog.text
    assert "127.0.0.1" in sink.name


@pytest.mark.parametrize(("login", "path", "reason"), [(("user", "secret"), "/live", "401"), ((), "/elsewhere", "404")])
def test_a_server_that_does_not_take_the_stream_is_an_error(
    start: Callable[..., MediaServer], login: tuple[str, ...], path: str, reason: str
) -> None:
    server = start(0, *login)
    sink = RtspPublisher(f"rtsp://user:wrong@127.0.0.1:{server.port}{path}", info())
    with pytest.raises(QtsegError, match=f"the server does not take the stream .*{reason}.*check that publishing") as caught:
        published(sink, lambda: False)
    sink.abandon()
    assert "wrong" not in str(caught.value)


def test_no_server_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(QtsegError, match=r"no media server there \(Connection refused\); start one, such as MediaMTX") as caught:
        RtspPublisher(f"rtsp://user:secret@127.0.0.1:{port}/live", info())
    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_told_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(QtsegError, match=r"no media server there \(timed out\)"):
            RtspPublisher(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/live", info())
        assert time.monotonic() - started < 3


def test_a_server_of_another_kind_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:

        def answer() -> None:
            connection, _ = web.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(QtsegError, match="what answers there does not speak RTSP; correct the port"):
            RtspPublisher(f"rtsp://127.0.0.1:{web.getsockname()[1]}/live", info())
        thread.join(PATIENCE)


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://",
        "rtsp://host",
        "rtsp://host:8554/",
        "rtsp://host:port/live",
        "rtsp://host:99999/live",
        "rtsp://[::1/live",
        "rtsp://user:secret#1@host/live",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"wanted rtsp://HOST:PORT/PATH") as caught:
        RtspPublisher(address, info())
    assert "secret" not in str(caught.value)
