"""RTSP from a real server (Debian's GStreamer): killed, frozen and started again; its pictures tell when they were made."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import pytest

from qtseg_edge.errors import SourceLostError
from qtseg_edge.runtime.frames import STALE_SECONDS, Frame
from qtseg_edge.runtime.sources import LiveOptions, open_source
from tests.runtime.sources.live import PATIENCE_S, wait_until
from tests.servers import RtspServer, require_rtsp_server
from tests.servers.clock_picture import age_of

pytestmark = pytest.mark.usefixtures("no_thread_is_left")
QUICK = LiveOptions(stall_timeout_s=1.0)
SECRET = "Zq9Kx7"  # not in the lines of a traceback
BUSY_S = 1.0  # what a busy machine may add to the age of a picture


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    require_rtsp_server()


@pytest.fixture
def server() -> Iterator[RtspServer]:
    with RtspServer() as server:
        yield server


def pictures(frames: Iterator[Frame], enough: Callable[[list[Frame]], object]) -> list[Frame]:
    """What comes until something holds. None that has a signal is older than it may be, by the time that is in the picture."""
    seen: list[Frame] = []
    deadline = time.monotonic() + PATIENCE_S
    while not enough(seen):
        assert time.monotonic() < deadline, "it did not happen"
        seen.append(next(frames))
        if seen[-1].has_signal:
            assert age_of(seen[-1].rgb, time.monotonic()) < STALE_SECONDS + BUSY_S
    return seen


def signals(seen: list[Frame]) -> int:
    return sum(frame.has_signal for frame in seen)


def back_after_a_gap(seen: list[Frame]) -> bool:
    states = [frame.has_signal for frame in seen]
    return False in states and any(states[states.index(False) :])


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_pictures_come_with_their_right_ages_from_the_first_on(server: RtspServer, transport: Literal["tcp", "udp"]) -> None:
    with open_source(f"rtsp://{server.address}", LiveOptions(rtsp_transport=transport)) as source:
        assert (source.info.live, source.info.rate, source.info.size_hw) == (True, 25, (120, 160))
        differences = []
        for frame in source:
            if frame.has_signal:
                now = time.monotonic()
                differences.append(age_of(frame.rgb, now) - (time.perf_counter() - frame.captured_at))
            if len(differences) == 25:
                break
        assert source.status.up and source.status.damaged == 0
    assert max(differences[:5]) < 0.4  # opening takes more than half a second, and what came meanwhile is that old
    assert np.median(differences) < 0.2


@pytest.mark.parametrize("method", ["basic", "digest"])
def test_a_login_is_used_and_never_shown(method: str, capfd: pytest.CaptureFixture[str]) -> None:
    with RtspServer(0, "bob", SECRET, method) as server:
        events: list[str] = []
        with open_source(f"rtsp://bob:{SECRET}@{server.address}", QUICK, events.append) as source:
            assert source.info.name == f"rtsp://***@{server.address}"
            frames = iter(source)
            assert {frame.source for frame in pictures(frames, lambda seen: signals(seen) > 2)} == {source.info.name}
            server.kill()
            pictures(frames, lambda _: len(events) > 1)
            shown = "".join(events) + source.status.reason
        for wrong in (f"rtsp://bob:{SECRET}wrong@{server.address}", f"rtsp://bob:{SECRET}@127.0.0.1:1/live"):
            with pytest.raises(SourceLostError):
                open_source(wrong, QUICK)
    assert SECRET not in shown + "".join(capfd.readouterr())


def test_a_wrong_password_is_an_error_with_a_cure_and_without_the_password(capfd: pytest.CaptureFixture[str]) -> None:
    with RtspServer(0, "bob", "right") as server, pytest.raises(SourceLostError, match="give the right user and password") as raised:
        open_source(f"rtsp://bob:{SECRET}@{server.address}", QUICK)
    assert raised.value.exit_code == 6
    assert SECRET not in "".join(traceback.format_exception(raised.value)) + "".join(capfd.readouterr())


def test_what_is_not_there_fails_at_once_with_a_cure(server: RtspServer) -> None:
    with pytest.raises(SourceLostError, match=r"cannot be opened \(Connection refused\); check the address"):
        open_source("rtsp://127.0.0.1:1/live", QUICK)
    with pytest.raises(SourceLostError, match="check the path behind the host"):
        open_source(f"rtsp://{server.address}-no", QUICK)
    server.freeze()
    started = time.monotonic()
    with pytest.raises(SourceLostError, match="the other side says nothing"):
        open_source(f"rtsp://{server.address}", QUICK)
    assert time.monotonic() - started < 5 * QUICK.stall_timeout_s


@pytest.mark.parametrize("transport", ["tcp", pytest.param("udp", marks=pytest.mark.slow)])
def test_a_server_that_is_killed_and_started_again_comes_back(transport: Literal["tcp", "udp"]) -> None:
    events: list[str] = []
    first = RtspServer()
    options = LiveOptions(stall_timeout_s=1.0, rtsp_transport=transport)
    with first, open_source(f"rtsp://{first.address}", options, events.append) as source:
        frames = iter(source)
        pictures(frames, lambda seen: signals(seen) >= 10)
        first.kill()
        pictures(frames, lambda seen: seen and not seen[-1].has_signal)
        assert not source.status.up
        with RtspServer(first.port):
            pictures(frames, lambda seen: signals(seen) >= 10)
            assert source.status.up and source.status.reopened >= 1
            assert "opening again (attempt 1)" in events[0]
            assert "back after" in events[-1]


@pytest.mark.parametrize("frozen_s", [pytest.param(0.5, marks=pytest.mark.slow), 2.0])
def test_a_server_that_freezes_leaves_no_old_picture_and_comes_back(server: RtspServer, frozen_s: float) -> None:
    with open_source(f"rtsp://{server.address}", QUICK) as source:
        frames = iter(source)
        pictures(frames, lambda seen: signals(seen) >= 10)
        server.freeze()
        thaw = threading.Timer(frozen_s, server.thaw)
        thaw.start()
        seen = pictures(frames, back_after_a_gap if frozen_s > STALE_SECONDS else lambda seen: not thaw.is_alive() and signals(seen) > 10)
        thaw.join()
        assert source.status.up
    assert frozen_s > STALE_SECONDS or all(frame.has_signal or frame.captured_at for frame in seen)


def test_a_server_that_stays_away_uses_up_the_restarts() -> None:
    server = RtspServer()
    with open_source(f"rtsp://{server.address}", LiveOptions(stall_timeout_s=1.0, restarts=2)) as source:
        frames = iter(source)
        pictures(frames, lambda seen: signals(seen) >= 3)
        server.kill()
        with pytest.raises(SourceLostError, match=r"lost \(cannot be opened \(Connection refused\).*not back after 2 attempts"):
            pictures(frames, lambda _: False)


def test_a_slow_consumer_does_not_fall_behind(server: RtspServer) -> None:
    with open_source(f"rtsp://{server.address}") as source:
        ages = []
        for frame in source:
            time.sleep(0.2)  # five a second of 25
            if frame.has_signal:
                ages.append(age_of(frame.rgb, time.monotonic()) - 0.2)
            if len(ages) == 10:
                break
    assert np.median(ages[-5:]) < 0.4
    assert max(ages) < STALE_SECONDS + BUSY_S


def test_close_while_the_server_is_frozen_returns_at_once(server: RtspServer) -> None:
    source = open_source(f"rtsp://{server.address}", QUICK)
    pictures(iter(source), lambda seen: signals(seen) >= 3)
    server.freeze()
    time.sleep(0.3)
    started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 0.5
    wait_until(lambda: not [thread for thread in threading.enumerate() if source.info.name in thread.name])


@pytest.mark.slow
def test_handles_are_flat_however_often_the_server_is_started_again() -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc to count open files in")
    with RtspServer() as first:
        source = open_source(f"rtsp://{first.address}", QUICK)
        frames = iter(source)
        pictures(frames, lambda seen: signals(seen) >= 3)
    counts = []
    with source:
        for _ in range(4):
            with RtspServer(first.port):
                pictures(frames, lambda seen: len(seen) > 3 and all(frame.has_signal for frame in seen[-3:]))
                counts.append(len(os.listdir("/proc/self/fd")))
            pictures(frames, lambda seen: seen and not seen[-1].has_signal)
    assert max(counts) - min(counts) <= 2
