"""The watch over a live source, with sources that do what the test says."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qtseg_edge.errors import MissingError, QtsegError, SourceLostError
from qtseg_edge.runtime.frames import STALE_SECONDS, Source
from qtseg_edge.runtime.sources.opening import opened_within
from qtseg_edge.runtime.sources.supervised import Patience, Supervised
from tests.runtime.sources.live import PATIENCE_S, QUICK, FakeLive, frames_until, wait_until

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


class Reopening:
    """Hands out `sources` one after the other, and raises those that are errors; the last of them for ever."""

    def __init__(self, *sources: Callable[[], Source]) -> None:
        self._sources = sources
        self._calls = itertools.count()
        self.opened: list[Source] = []

    def __call__(self) -> Source:
        self.opened.append(self._sources[min(next(self._calls), len(self._sources) - 1)]())
        return self.opened[-1]


def fails(error: Exception) -> Callable[[], Source]:
    def opening() -> Source:
        raise error

    return opening


@pytest.fixture
def hung() -> Iterator[list[FakeLive]]:
    """Sources that a test left hanging are let go at its end."""
    sources: list[FakeLive] = []
    yield sources
    for source in sources:
        source.never.set()


@pytest.mark.parametrize("ending", ["end", SourceLostError("fake://u: gone"), ValueError("odd")])
def test_a_source_that_ends_or_breaks_is_opened_again(ending: str | Exception) -> None:
    events: list[str] = []
    first = FakeLive(10, ending, mark=50)
    with Supervised(first, lambda: FakeLive(mark=99), QUICK, events.append) as source:
        frames = frames_until(iter(source), lambda seen: seen and seen[-1].rgb[0, 0, 0] == 99)
        assert source.status == replace(source.status, up=True, reopened=1, reason="")
    kinds = "".join("." if not frame.has_signal else "a" if frame.rgb[0, 0, 0] == 50 else "b" for frame in frames)
    assert kinds.lstrip("a").lstrip(".") == "b" and "a." in kinds
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert all(before.time < after.time for before, after in itertools.pairwise(frames))
    assert {frame.source for frame in frames} == {"fake://u"}
    wait_until(lambda: len(events) == 2)
    assert first.closed
    reason = {"end": "it ended"}.get(str(ending), "gone" if isinstance(ending, SourceLostError) else "ValueError: odd")
    assert events[0] == f"fake://u: {reason}; opening again (attempt 1)"
    assert events[1].startswith("fake://u: back after ")


def test_a_read_that_hangs_neither_stops_the_frames_nor_hangs_the_close(hung: list[FakeLive]) -> None:
    hung.append(FakeLive(5, "hang"))
    source = Supervised(hung[0], lambda: FakeLive(mark=99), QUICK)
    frames_until(iter(source), lambda seen: seen and seen[-1].rgb[0, 0, 0] == 99)
    assert hung[0].closed
    started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 1


def test_between_two_readings_there_is_black_of_the_last_size_at_once() -> None:
    slow = replace(QUICK, backoff_s=1.2, backoff_most_s=1.2)
    with Supervised(FakeLive(10, mark=50), lambda: FakeLive(mark=99), slow) as source:
        frames = frames_until(iter(source), lambda seen: seen and seen[-1].rgb[0, 0, 0] == 99)
    blanks = [frame for frame in frames if not frame.has_signal]
    last = max(frame.captured_at for frame in frames if frame.rgb[0, 0, 0] == 50)
    assert len(blanks) >= 2
    assert all(frame.rgb.shape == (24, 32, 3) for frame in blanks)
    assert blanks[0].captured_at - last < STALE_SECONDS  # nobody waits for the picture to grow old once the source is known to be lost


def test_a_source_that_only_stops_gives_black_before_its_last_picture_is_too_old(hung: list[FakeLive]) -> None:
    hung.append(FakeLive(10, "hang", mark=50))
    with Supervised(hung[0], lambda: FakeLive(), replace(QUICK, stall_s=60)) as source:
        frames = frames_until(iter(source), lambda seen: sum(not frame.has_signal for frame in seen) == 2)
        assert not source.status.up
        assert source.status.reason.startswith("no picture for ")
        assert source.status.reopened == 0
    assert frames[-2].captured_at - frames[-3].captured_at == pytest.approx(STALE_SECONDS, abs=0.5)


def test_a_source_that_gives_nothing_is_black_too(hung: list[FakeLive]) -> None:
    hung.append(FakeLive(0, "hang"))
    with Supervised(hung[0], lambda: FakeLive(), replace(QUICK, stall_s=60)) as source:
        assert source.status.reason == "no picture yet"
        frames = frames_until(iter(source), len)
    assert not frames[0].has_signal


def test_pictures_that_come_late_are_never_given_and_the_source_is_opened_again() -> None:
    events: list[str] = []
    with Supervised(FakeLive(late_s=STALE_SECONDS + 0.2, mark=50), lambda: FakeLive(mark=99), QUICK, events.append) as source:
        frames = frames_until(iter(source), lambda seen: seen and seen[-1].rgb[0, 0, 0] == 99)
    assert 50 not in {int(frame.rgb[0, 0, 0]) for frame in frames}
    assert "late; opening again" in events[0]


def test_restarts_are_used_up_and_the_error_says_what_to_do() -> None:
    reopening = Reopening(fails(SourceLostError("fake://u: cannot be opened (Connection refused); rtsp://bob:secret@h/live is off")))
    with Supervised(FakeLive(5), reopening, QUICK) as source:
        frames = iter(source)
        with pytest.raises(
            SourceLostError, match=r"^fake://u: lost \(cannot be opened .*not back after 3 attempts.*--restarts -1"
        ) as raised:
            frames_until(frames, lambda _: False)
        assert "secret" not in str(raised.value)
        assert not source.status.up and "Connection refused" in source.status.reason


def test_no_restart_is_none() -> None:
    with (
        Supervised(FakeLive(5), fails(AssertionError()), replace(QUICK, restarts=0)) as source,
        pytest.raises(SourceLostError, match="as asked"),
    ):
        frames_until(iter(source), lambda _: False)


def test_frames_for_some_time_end_the_row_of_restarts() -> None:
    reopening = Reopening(lambda: FakeLive(30))  # 0.6 s each, and 0.2 are enough
    with Supervised(FakeLive(5), reopening, replace(QUICK, restarts=1, steady_s=0.2)) as source:
        frames_until(iter(source), lambda _: len(reopening.opened) == 3)


def test_a_source_that_flickers_is_given_up() -> None:
    reopening = Reopening(lambda: FakeLive(5))
    with Supervised(FakeLive(5), reopening, QUICK) as source, pytest.raises(SourceLostError, match="after 3 attempts"):
        frames_until(iter(source), lambda _: False)
    assert len(reopening.opened) == 3


def test_an_opening_that_hangs_is_given_up_and_closed_when_it_comes_back() -> None:
    late, release = FakeLive(), threading.Event()

    def hangs() -> Source:
        release.wait(PATIENCE_S)
        return late

    reopening = Reopening(hangs, lambda: FakeLive(mark=99))
    events: list[str] = []
    with Supervised(FakeLive(5), reopening, replace(QUICK, open_s=0.3), events.append) as source:
        frames_until(iter(source), lambda seen: seen and seen[-1].rgb[0, 0, 0] == 99)
        assert "not open after" in events[1]
        release.set()
        wait_until(lambda: late.closed)


def test_the_number_of_readings_that_hang_is_bounded(hung: list[FakeLive]) -> None:
    def another() -> Source:
        hung.append(FakeLive(0, "hang"))
        return hung[-1]

    patience = replace(QUICK, stall_s=0.02, backoff_s=0.001, backoff_most_s=0.001, restarts=40)
    with Supervised(another(), another, patience) as source, pytest.raises(SourceLostError, match="earlier readings hang"):
        frames_until(iter(source), lambda _: False)
    assert len(hung) == 8


def test_a_consumer_that_is_slow_gets_the_newest() -> None:
    with Supervised(FakeLive(rate=100), fails(AssertionError()), QUICK) as source:
        ages = []
        for _, frame in zip(range(8), source, strict=False):
            ages.append(time.perf_counter() - frame.captured_at)
            time.sleep(0.1)
    assert np.median(ages[1:]) < 0.08


def test_what_nobody_took_and_what_came_too_late_is_counted() -> None:
    given = 60
    with Supervised(FakeLive(given, "end", rate=200), FakeLive, replace(QUICK, restarts=0)) as source:
        taken = 0
        with pytest.raises(SourceLostError):
            for frame in source:
                taken += frame.has_signal
                time.sleep(0.02)
        assert taken < given and taken + source.status.late == given
    with Supervised(FakeLive(20, "end", rate=200, late_s=5.0), FakeLive, replace(QUICK, restarts=0)) as source:
        with pytest.raises(SourceLostError):
            assert not any(frame.has_signal for frame in source)
        assert source.status.late == 20


def test_every_frame_is_given_to_who_asks_for_it_until_it_is_too_old() -> None:
    with Supervised(FakeLive(30, "end", rate=100), FakeLive, replace(QUICK, restarts=0), every=True) as source:
        frames = []
        with pytest.raises(SourceLostError):
            for frame in source:
                frames.append(frame)
                if len(frames) in (5, 12):
                    time.sleep(0.08)  # eight more come
        assert sum(frame.has_signal for frame in frames) == 30 and source.status.late == 0
    with Supervised(FakeLive(200, "end", rate=100), FakeLive, replace(QUICK, restarts=0), every=True) as source:
        taken = 0
        with pytest.raises(SourceLostError):
            for frame in source:
                assert not frame.has_signal or time.perf_counter() - frame.captured_at < STALE_SECONDS + 0.5
                taken += frame.has_signal
                time.sleep(0.1)
        assert taken < 60 and taken + source.status.late == 200


def test_close_in_any_state_returns_at_once_and_ends_the_iterator(hung: list[FakeLive]) -> None:
    hung.append(FakeLive(0, "hang"))
    states: list[Callable[[], Supervised]] = [
        lambda: Supervised(FakeLive(), fails(AssertionError()), QUICK),
        lambda: Supervised(hung[0], fails(AssertionError()), replace(QUICK, stall_s=60)),
        lambda: Supervised(FakeLive(0), fails(MissingError("no camera")), replace(QUICK, backoff_s=60, backoff_most_s=60)),
        lambda: Supervised(FakeLive(0), fails(MissingError("no camera")), QUICK),
    ]
    for begin in states:
        source = begin()
        taken: list[int] = []

        def consume(source: Supervised = source, taken: list[int] = taken) -> None:
            try:
                taken.extend(frame.index for frame in source)
            except SourceLostError:
                taken.append(-1)

        consumer = threading.Thread(target=consume)
        consumer.start()
        time.sleep(0.3)
        started = time.monotonic()
        source.close()
        source.close()
        assert time.monotonic() - started < 1
        consumer.join(5)
        assert not consumer.is_alive()


def test_damaged_pictures_are_counted_over_all_readings() -> None:
    with Supervised(FakeLive(5, damaged=3), lambda: FakeLive(damaged=4, mark=99), QUICK) as source:
        frames_until(iter(source), lambda seen: seen and seen[-1].rgb[0, 0, 0] == 99)
        assert source.status.damaged == 7


def test_what_was_counted_is_still_told_after_the_end() -> None:
    with Supervised(FakeLive(damaged=5), fails(AssertionError()), QUICK) as source:
        frames_until(iter(source), lambda seen: len(seen) >= 3)
    assert source.status.damaged == 5


def test_what_the_user_is_to_hear_cannot_be_said_ends_the_run() -> None:
    def broken(_: str) -> None:
        raise BrokenPipeError("nobody listens")

    with Supervised(FakeLive(5), lambda: FakeLive(), QUICK, broken) as source, pytest.raises(BrokenPipeError, match="nobody listens"):
        frames_until(iter(source), lambda _: False)


def test_a_source_that_cannot_be_closed_is_left() -> None:
    class Stubborn(FakeLive):
        def close(self) -> None:
            super().close()
            raise OSError("no")

    with Supervised(Stubborn(5), lambda: FakeLive(mark=99), QUICK) as source:
        frames_until(iter(source), lambda seen: seen and seen[-1].rgb[0, 0, 0] == 99)


def test_handles_and_threads_are_flat_over_many_restarts(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc to count open files in")
    (tmp_path / "device").touch()

    class Opened(FakeLive):
        def __init__(self) -> None:
            super().__init__(2)
            self.file = (tmp_path / "device").open("rb")

        def close(self) -> None:
            super().close()
            self.file.close()

    reopening = Reopening(Opened)
    patience = replace(QUICK, restarts=-1, backoff_s=0.001, backoff_most_s=0.001)
    with Supervised(Opened(), reopening, patience) as source:
        frames = iter(source)
        frames_until(frames, lambda _: len(reopening.opened) >= 5)
        before = len(os.listdir("/proc/self/fd")), threading.active_count()
        frames_until(frames, lambda _: len(reopening.opened) >= 40)
        after = len(os.listdir("/proc/self/fd")), threading.active_count()
    assert after[0] <= before[0] + 2 and after[1] <= before[1] + 2
    wait_until(lambda: all(opened.file.closed for opened in reopening.opened))  # type: ignore[attr-defined]


def test_pauses_double_up_to_a_bound() -> None:
    patience = Patience()
    pauses = [patience.pause_before(attempt) for attempt in range(1, 31)]
    assert pauses[:6] == [0.5, 1, 2, 4, 8, 10]
    assert max(pauses) == patience.pause_before(10**9) == 10
    assert sum(pauses) > 4 * 60


def test_a_first_opening_that_hangs_is_an_error_and_closes_what_comes_of_it() -> None:
    late, release = FakeLive(), threading.Event()

    def hangs() -> Source:
        release.wait(PATIENCE_S)
        return late

    with pytest.raises(SourceLostError, match=r"fake: not open after 0.2 s; check it"):
        opened_within(0.2, hangs, "fake", "check it")
    release.set()
    wait_until(lambda: late.closed)


def test_a_first_opening_that_fails_late_or_early_raises_once() -> None:
    with pytest.raises(MissingError, match="no camera"):
        opened_within(PATIENCE_S, fails(MissingError("no camera")), "fake", "check it")
    release = threading.Event()

    def fails_late() -> Source:
        release.wait(PATIENCE_S)
        raise QtsegError("odd")

    with pytest.raises(SourceLostError):
        opened_within(0.05, fails_late, "fake", "check it")
    release.set()
