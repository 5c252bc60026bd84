"""Live sources that need nothing: the test picture, and a file as if live; and what `open_source` takes for all of them."""

from __future__ import annotations

import importlib.util
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from qtseg_edge.errors import MissingError, QtsegError, UsageError
from qtseg_edge.runtime.frames import Frame, Source, SourceInfo
from qtseg_edge.runtime.sources import LiveOptions, open_source
from qtseg_edge.runtime.sources.live import LIVE_RATE, LiveClock, SharedHandle, credible_rate
from qtseg_edge.runtime.sources.realtime import Realtime
from tests.media import number_of, numbered_frames, write_video


def timed(source: Source, count: int) -> list[tuple[float, Frame]]:
    """Frames, and when they came."""
    return [(time.perf_counter(), frame) for frame, _ in zip(source, range(count), strict=False)]


def test_the_test_picture_comes_at_its_rate_and_moves() -> None:
    with open_source("testsrc://320x240@50") as source:
        assert (source.info.live, source.info.rate, source.info.size_hw, source.info.frames) == (True, 50, (240, 320), None)
        came = timed(source, 26)
    assert came[-1][0] - came[0][0] >= 0.4
    frames = [frame for _, frame in came]
    assert all(frame.rgb.shape == (240, 320, 3) and frame.rgb.dtype == np.uint8 and frame.has_signal for frame in frames)
    assert [frame.index for frame in frames] == list(range(26))
    assert np.abs(frames[0].rgb.astype(int) - frames[-1].rgb).max() > 50
    assert all(at - frame.captured_at < 1 for at, frame in came)


def test_the_test_picture_has_a_red_lesion() -> None:
    with open_source("testsrc://") as source:
        assert source.info.size_hw == (480, 640) and source.info.rate == 30
        rgb = next(iter(source)).rgb.astype(int)
    assert ((rgb[..., 0] > 180) & (rgb[..., 1] < 80)).sum() > 1000


def test_a_test_picture_that_is_not_taken_is_not_made_up_for() -> None:
    with open_source("testsrc://64x64@100") as source:
        frames = iter(source)
        next(frames)
        time.sleep(0.3)
        came = [next(frames).captured_at for _ in range(5)]
    assert came[-1] - came[0] >= 0.03


@pytest.mark.parametrize(
    "text", ["@0", "10x10", "640", "640x", "9000x9000@30", "640x480@1000", "640x480@-1", "640x480@30fps", "@1e3", "axb"]
)
def test_a_test_picture_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="wanted testsrc://WIDTHxHEIGHT@FPS"):
        open_source(f"testsrc://{text}")


def test_close_ends_a_test_picture_that_waits() -> None:
    source = open_source("testsrc://64x64@0.1")
    taken: list[Frame] = []
    reader = threading.Thread(target=lambda: taken.extend(source))
    reader.start()
    time.sleep(0.2)
    source.close()
    reader.join(5)
    assert not reader.is_alive() and len(taken) <= 1


class Given(Source):
    """Frames at `times`, of one file or of several."""

    def __init__(self, times: list[tuple[str, Fraction]]) -> None:
        self.info = SourceInfo("given", Fraction(20), Fraction(1, 1000), len(times))
        self._times = times
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        for index, (name, moment) in enumerate(self._times):
            yield Frame(np.zeros((8, 8, 3), np.uint8), index, moment, name, 0.1, 0.0)

    def close(self) -> None:
        self.closed = True


def test_a_file_as_if_live_comes_when_its_frames_are_due() -> None:
    given = Given([("a", Fraction(0)), ("a", Fraction(1, 10)), ("a", Fraction(4, 10)), ("b", Fraction(0)), ("b", Fraction(1, 10))])
    with Realtime(given) as source:
        assert source.info == replace(given.info, live=True)
        came = timed(source, 9)
    due = [0, 0.1, 0.4, 0.45, 0.55]  # from one file to the next at the source's rate
    for (at, frame), wanted in zip(came, due, strict=True):
        assert at - came[0][0] >= wanted - 0.01
        assert at - frame.captured_at < 0.5
    assert [frame.time for _, frame in came] == [moment for _, moment in given._times]
    assert given.closed


def test_a_frame_that_is_late_hurries_none() -> None:
    with Realtime(Given([("a", Fraction(index, 20)) for index in range(10)])) as source:
        frames = iter(source)
        next(frames)
        time.sleep(0.4)
        went_on = time.perf_counter()
        came = [next(frames).captured_at for _ in range(5)]
    assert came[-1] - went_on >= 0.2


def test_close_ends_a_file_as_if_live_that_waits() -> None:
    source = Realtime(Given([("a", Fraction(0)), ("a", Fraction(60))]))
    reader = threading.Thread(target=lambda: list(source))
    reader.start()
    time.sleep(0.2)
    source.close()
    reader.join(5)
    assert not reader.is_alive()


def test_a_video_as_if_live_keeps_its_frames_and_their_times(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "a.mp4", numbered_frames(10))
    with open_source(str(clip), LiveOptions(realtime=True)) as source:
        assert source.info.live and source.info.frames == 10 and source.info.files == (clip,)
        frames = list(source)
    assert [number_of(frame.rgb) for frame in frames] == list(range(10))
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(10)]


def test_what_is_live_already_stays_as_it_is() -> None:
    with open_source("testsrc://", LiveOptions(realtime=True)) as source:
        assert not isinstance(source, Realtime) and source.info.live


@pytest.mark.parametrize("options", [{"stall_timeout_s": value} for value in (0, -1, math.nan, math.inf)] + [{"restarts": -2}])
def test_patience_that_cannot_be_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="wanted a stall timeout above 0"):
        open_source("testsrc://", LiveOptions(**options))  # type: ignore[arg-type]


def test_without_pyav_a_stream_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "av" else found(name, *rest))
    with pytest.raises(MissingError, match=r"needs PyAV; get it with: pip install 'qtseg-edge\[cpu\]'"):
        open_source("rtsp://bob:secret@127.0.0.1:1/live")


def test_a_name_that_no_file_can_have_is_one_line() -> None:
    with pytest.raises(QtsegError):
        open_source("x" * 5000)


def test_times_of_a_live_source_grow_however_close_the_frames_come() -> None:
    clock = LiveClock()
    assert [clock.time_of(at) for at in (5.0, 5.0, 4.0, 5.5)] == [Fraction(count, 1000) for count in (0, 1, 2, 500)]


@pytest.mark.parametrize(
    ("said", "rate"), [(30000 / 1001, Fraction(30000, 1001)), (0, LIVE_RATE), (90000, LIVE_RATE), (None, LIVE_RATE), (math.nan, LIVE_RATE)]
)
def test_a_rate_that_cannot_be_is_not_believed(said: float | None, rate: Fraction) -> None:
    assert credible_rate(said) == rate


def test_a_handle_is_freed_once_and_never_while_it_is_in_use() -> None:
    freed: list[str] = []
    handle = SharedHandle(lambda: freed.append("x"))
    with handle.in_use() as usable:
        assert usable
        closer = threading.Thread(target=handle.close)
        closer.start()
        closer.join(5)
        assert not closer.is_alive() and not freed
    assert freed == ["x"]
    handle.close()
    with handle.in_use() as usable:
        assert not usable
    assert freed == ["x"]
