"""Video over HTTP: files, live streams, and servers that send nonsense."""

from __future__ import annotations

import random
import time
import traceback

import numpy as np
import pytest

from qtseg_edge.errors import SourceLostError
from qtseg_edge.runtime.frames import STALE_SECONDS, Frame, Source
from qtseg_edge.runtime.sources import LiveOptions, open_source
from qtseg_edge.runtime.sources.stream_reader import RemoteVideo, open_stream
from qtseg_edge.runtime.sources.supervised import Patience, Supervised
from tests.media import number_of, numbered_frames, write_video
from tests.runtime.sources.live import FakeLive, frames_until
from tests.servers.clock_picture import age_of
from tests.servers.http_video import TransportStream, answer, file, parts
from tests.servers.sockets import Handler, listening, noise, rtsp_then_noise

pytestmark = pytest.mark.usefixtures("no_thread_is_left")
QUICK = LiveOptions(stall_timeout_s=1.0)
SECRET = "Zq9Kx7"  # not in the lines of a traceback


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """60 numbered frames that can be read from the beginning."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return write_video(path, numbered_frames(60), container={"movflags": "+faststart"}).read_bytes()


def supervised(address: str, restarts: int = 2) -> Supervised:
    """As `open_source` does it, with less patience."""

    def opening() -> Source:
        return open_stream(address, address, 1.0)

    return Supervised(opening(), opening, Patience(1.0, 2.0, restarts, 0.05, 0.1))


def test_a_file_gives_every_frame(clip: bytes) -> None:
    with listening(file(clip)) as server, open_source(f"http://127.0.0.1:{server.port}/clip.mp4", QUICK) as source:
        assert isinstance(source, RemoteVideo)
        assert (source.info.live, source.info.frames, source.info.files) == (False, 60, ())
        assert [number_of(frame.rgb) for frame in source] == list(range(60))


def test_a_file_as_if_live_comes_at_its_own_pace(clip: bytes) -> None:
    options = LiveOptions(realtime=True)
    with listening(file(clip)) as server, open_source(f"http://127.0.0.1:{server.port}/clip.mp4", options) as source:
        started = time.perf_counter()
        assert len([frame for frame, _ in zip(source, range(26), strict=False)]) == 26
        assert time.perf_counter() - started >= 0.99


def test_a_server_that_stops_in_the_middle_of_a_file_loses_the_source_without_its_password(clip: bytes) -> None:
    with listening(file(clip, sent=len(clip) // 2)) as server:
        source = open_source(f"http://bob:{SECRET}@127.0.0.1:{server.port}/clip.mp4", QUICK)
        with source, pytest.raises(SourceLostError, match=r"http://\*\*\*@127.0.0.1:\d+/clip.mp4: broke after frame \d+") as raised:
            list(source)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    ("handler", "cure"),
    [
        (answer("404 Not Found"), "check the path behind the host"),
        (answer("403 Forbidden"), "give the right user and password"),
        (file(b"x", login="bob:right"), "give the right user and password"),
        (answer("500 Oh No"), "check the address"),
        (answer("200 OK\r\nContent-Type: text/html", b"<html>hello</html>"), "check the address"),
    ],
)
def test_a_refusal_is_an_error_with_a_cure(handler: Handler, cure: str, capfd: pytest.CaptureFixture[str]) -> None:
    with listening(handler) as server, pytest.raises(SourceLostError, match=cure) as raised:
        open_source(f"http://bob:{SECRET}@127.0.0.1:{server.port}/live?token={SECRET}", QUICK)
    assert SECRET not in "".join(traceback.format_exception(raised.value)) + "".join(capfd.readouterr())


def test_a_login_opens_a_file(clip: bytes) -> None:
    with listening(file(clip, login="bob:right")) as server, open_source(f"http://bob:right@127.0.0.1:{server.port}/a.mp4") as source:
        assert next(iter(source)).source == f"http://***@127.0.0.1:{server.port}/a.mp4"


@pytest.mark.timing
@pytest.mark.parametrize("handler", [TransportStream(b_frames=2), parts()], ids=["ts with b-frames", "mjpeg"])
def test_a_stream_without_a_length_is_live_and_its_ages_are_right(handler: Handler) -> None:
    with listening(handler) as server, open_source(f"http://127.0.0.1:{server.port}/live") as source:
        assert source.info.live and source.info.frames is None
        seen = frames_until(iter(source), lambda seen: sum(frame.has_signal for frame in seen) >= 25)
        differences = [
            age_of(frame.rgb, time.monotonic()) - (time.perf_counter() - frame.captured_at) for frame in seen if frame.has_signal
        ]
    assert max(differences) < 0.6
    assert np.median(differences) < 0.3


def true_age(frame: Frame) -> float:
    return age_of(frame.rgb, time.monotonic())


def test_pictures_that_were_held_up_on_their_way_are_not_given() -> None:
    """Nothing is lost, all of it comes: too late."""
    handler = TransportStream()
    with listening(handler) as server, supervised(f"http://127.0.0.1:{server.port}/live.ts") as source:
        frames = iter(source)
        frames_until(frames, lambda seen: sum(frame.has_signal for frame in seen) >= 10)
        handler.hold.set()
        frames_until(frames, lambda seen: seen and not seen[-1].has_signal)
        time.sleep(0.3)
        handler.hold.clear()
        back = 0
        while back < 10:
            frame = next(frames)
            back += frame.has_signal
            assert not frame.has_signal or true_age(frame) < STALE_SECONDS + 0.5


def one_lost(data: bytes) -> bytes:
    """Without the last of a picture's packets, as over a bad line."""
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    del packets[max(number for number, packet in enumerate(packets) if packet[1:3].endswith(b"\x00") and packet[1] & 31 == 1)]
    return b"".join(packets)


@pytest.mark.parametrize(
    "handler",
    [TransportStream(one_lost), TransportStream(lambda data: random.Random(0).randbytes(len(data))), noise],
    ids=["every picture damaged", "noise after the head", "noise"],
)
def test_nonsense_over_http_is_lost_and_never_a_picture(handler: Handler) -> None:
    with listening(handler) as server, pytest.raises(SourceLostError), supervised(f"http://127.0.0.1:{server.port}/live.ts", 1) as source:
        frames_until(iter(source), lambda seen: any(frame.has_signal for frame in seen))


def test_changed_bytes_break_nothing() -> None:
    """Pictures may come: a decoder does not find every change."""
    rng = random.Random(0)

    def changed(data: bytes) -> bytes:
        out = bytearray(data)
        for _ in range(len(out) // 60):
            out[rng.randrange(len(out))] ^= rng.randrange(1, 256)
        return bytes(out)

    with listening(TransportStream(changed)) as server:
        address = f"http://127.0.0.1:{server.port}/live.ts"
        with Supervised(FakeLive(3), lambda: open_stream(address, address, 1.0), Patience(0.5, 2.0, -1, 0.05, 0.1)) as source:
            ends = time.monotonic() + 3
            frames_until(iter(source), lambda _: time.monotonic() > ends)


@pytest.mark.parametrize("handler", [noise, rtsp_then_noise])
def test_nonsense_over_rtsp_is_lost_and_never_a_picture(handler: Handler) -> None:
    with listening(handler) as server, pytest.raises(SourceLostError), supervised(f"rtsp://127.0.0.1:{server.port}/live", 1) as source:
        frames_until(iter(source), lambda seen: any(frame.has_signal for frame in seen))


def test_a_stream_that_turns_to_noise_comes_back() -> None:
    noisy: list[bool] = []

    def changed(data: bytes) -> bytes:
        return random.Random(0).randbytes(len(data)) if noisy else data

    with listening(TransportStream(changed)) as server, supervised(f"http://127.0.0.1:{server.port}/live.ts", -1) as source:
        frames = iter(source)
        frames_until(frames, lambda seen: sum(frame.has_signal for frame in seen) >= 10)
        noisy.append(True)
        frames_until(frames, lambda _: not source.status.up)
        noisy.clear()
        frames_until(frames, lambda seen: sum(frame.has_signal for frame in seen) >= 10)
        assert source.status.reopened >= 1


def test_a_stream_that_becomes_a_file_is_not_played_as_if_live(clip: bytes) -> None:
    handlers = iter([parts(20)])
    fallback = file(clip)
    with listening(lambda connection: next(handlers, fallback)(connection)) as server:
        source = open_source(f"http://127.0.0.1:{server.port}/live", LiveOptions(stall_timeout_s=1.0, restarts=1))
        with source, pytest.raises(SourceLostError, match="was a live stream, and is a file now"):
            for frame in source:
                assert not frame.has_signal or frame.rgb.shape == (120, 160, 3)
