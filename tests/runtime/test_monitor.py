"""What a run tells of itself while it goes on."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from qtseg_edge.runtime.frames import SourceStatus
from qtseg_edge.runtime.monitor import DAMAGED, LATE, Monitor
from qtseg_edge.runtime.results import Result
from tests.runtime.stand_ins import result_of

RGB = np.zeros((10, 20, 3), np.uint8)


def result(marked: int = 0, *, stream: int = 0, age_s: float = 0.0, has_signal: bool = True) -> Result:
    mask = np.zeros((10, 20), np.uint8)
    mask.flat[:marked] = 1
    made = result_of(RGB, mask)
    frame = replace(made.frame, captured_at=time.perf_counter() - age_s, has_signal=has_signal)
    return replace(made, frame=frame, stream=stream)


def monitor(*statuses: SourceStatus) -> Monitor:
    made = Monitor("fake", "tiny")
    for number, status in enumerate(statuses or (SourceStatus(),)):
        assert made.add_stream(f"camera {number}", lambda status=status: status) == number  # type: ignore[misc]
    return made


def test_frames_and_what_is_in_them_are_counted_by_stream() -> None:
    seen = monitor(SourceStatus(), SourceStatus())
    for marked in (0, 50, 20):
        seen.segmented(result(marked))
    seen.segmented(result(0, stream=1))
    first, second = seen.snapshot().streams
    assert (first.name, first.frames, first.foreground_frames, first.mask_share) == ("camera 0", 3, 2, 0.1)
    assert (second.name, second.frames, second.foreground_frames, second.mask_share) == ("camera 1", 1, 0, 0.0)


def test_the_age_is_that_of_the_newest_picture_and_grows_while_none_comes() -> None:
    seen = monitor()
    assert seen.snapshot().streams[0].age_s is None
    seen.segmented(result(age_s=5.0))
    seen.segmented(result(age_s=0.2))
    before = seen.snapshot().streams[0].age_s
    assert before is not None and 0.2 <= before < 4
    time.sleep(0.05)
    after = seen.snapshot().streams[0].age_s
    assert after is not None and after >= before + 0.05


def test_a_frame_without_signal_is_no_picture() -> None:
    seen = monitor()
    seen.segmented(result(60, age_s=3.0))
    seen.segmented(result(60, has_signal=False))
    (stream,) = seen.snapshot().streams
    assert (stream.frames, stream.foreground_frames, stream.mask_share) == (1, 1, 0.0)
    assert stream.age_s is not None and stream.age_s >= 3


def test_what_is_left_out_is_counted_by_reason_also_by_the_source() -> None:
    seen = monitor(SourceStatus(damaged=4, late=2))
    for _ in range(3):
        seen.dropped(0, LATE)
    seen.dropped(0, "slow output", 7)
    assert seen.snapshot().streams[0].dropped == {LATE: 5, "slow output": 7, DAMAGED: 4}


def test_the_rate_is_that_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qtseg_edge.runtime.monitor._FPS_SECONDS", 0.1)
    seen = monitor()
    ends = time.perf_counter() + 0.5
    frames = 0
    while time.perf_counter() < ends:
        seen.segmented(result())
        frames += 1
        time.sleep(0.01)
    rate = seen.snapshot().streams[0].fps
    assert frames / 0.5 * 0.4 < rate < frames / 0.5 * 2.5
    time.sleep(0.25)
    assert seen.snapshot().streams[0].fps == 0.0


def test_the_note_tells_what_is_wrong_first() -> None:
    seen = monitor(SourceStatus(), SourceStatus(False, 2, 0, "no picture for 3.0 s"))
    assert seen.snapshot().note() == "camera 1: no picture for 3.0 s"
    seen.segmented(result(age_s=0.5))
    seen.dropped(0, LATE, 12)
    seen.sink_failed(seen.add_sink("out.mp4"), "disk full")
    down, stopped, age, dropped = seen.snapshot().note().split("; ")
    assert (down, stopped, dropped) == ("camera 1: no picture for 3.0 s", "out.mp4: stopped", "12 dropped")
    assert age.startswith("age ") and age.endswith(" ms") and 500 <= int(age.split()[1]) < 5000


def test_many_threads_may_tell_and_ask_at_once() -> None:
    seen = monitor()
    sink = seen.add_sink("list")

    def tell() -> None:
        for _ in range(500):
            seen.segmented(result(1))
            seen.latency("infer", 2.0)
            seen.written(sink)
            seen.snapshot()

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = seen.snapshot()
    assert (told.streams[0].frames, told.sinks[0].written, told.latencies["infer"].percentiles().count) == (2000, 2000, 2000)
