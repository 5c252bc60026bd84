"""Live streams in a run: newest frames, ages, lost signals, several sources with one engine."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import SourceLostError, UsageError
from qtseg_edge.runtime import FakeBackend, Masks, Pipeline, RunReport
from qtseg_edge.runtime.backend import Backend
from qtseg_edge.runtime.fake import FAKE_CARD
from qtseg_edge.runtime.frames import Frame, Source
from qtseg_edge.runtime.lane import Stream
from qtseg_edge.runtime.monitor import LATE
from qtseg_edge.spec import ModelSpec
from tests.media import number_of, numbered_frame
from tests.runtime.stand_ins import ListSink, ListSource, frame_of, info, stream

pytestmark = [pytest.mark.timeout(30), pytest.mark.usefixtures("no_thread_is_left")]
LOST = SourceLostError("camera: lost")


class Camera(Source):
    """A frame every `seconds` whatever happens to the one before. `blank`: indices without a signal."""

    def __init__(self, frames: int, seconds: float = 0.005, blank: frozenset[int] = frozenset(), error: Exception | None = None) -> None:
        self.info = replace(info(), name="camera", live=True)
        self._count, self._seconds, self._blank, self._error = frames, seconds, blank, error
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        due = time.perf_counter()
        for index in range(self._count):
            if self._closed.wait(max(0.0, due - time.perf_counter())):
                return
            due += self._seconds
            rgb, blank = numbered_frame(index % 1000), index in self._blank
            yield replace(frame_of(np.zeros_like(rgb) if blank else rgb, index, source="camera"), has_signal=not blank)
        if self._error:
            raise self._error

    def close(self) -> None:
        self._closed.set()


def run(*streams: Stream) -> RunReport:
    return Pipeline(streams).run()


def test_live_takes_the_newest_by_itself_and_counts_the_rest_by_reason() -> None:
    sink = ListSink()
    report = run(stream(Camera(100), sink, backend=FakeBackend(seconds=0.03)))
    (seen,) = report.snapshot.streams
    assert seen.frames == report.frames == len(sink.results) < 60
    assert seen.dropped == {LATE: 100 - report.frames}
    assert sink.indices == sorted(set(sink.indices)) and sink.indices[-1] == 99


def test_live_with_every_frame_drops_nothing_that_the_machine_can_hold() -> None:
    sink = ListSink()
    report = run(stream(Camera(60, 0.02), sink, backend=FakeBackend(seconds=0.001), policy="all"))
    assert (report.frames, report.dropped) == (60, 0)


@pytest.mark.timing
def test_the_age_does_not_grow_where_the_camera_is_faster_than_the_network() -> None:
    sink = ListSink()
    run(stream(Camera(300), sink, backend=FakeBackend(seconds=0.03)))
    ages = [result.segmented_at - result.frame.captured_at for result in sink.results]
    assert len(ages) > 20
    assert np.median(ages[-10:]) < 4 * 0.03 + 0.05
    assert np.median(ages[-10:]) < np.median(ages[5:15]) + 0.05


@pytest.mark.timing
def test_a_slow_output_holds_up_neither_the_network_nor_the_others() -> None:
    slow, quick = ListSink(seconds=0.2), ListSink()
    report = run(stream(Camera(60), slow, quick, backend=FakeBackend(seconds=0.002)))
    assert len(slow.results) < 30
    assert len(quick.results) == report.frames > 2 * len(slow.results)


def test_a_lost_signal_goes_through_without_a_mask_and_without_the_network() -> None:
    class Counting(FakeBackend):
        calls = 0

        def _infer(self, image: NDArray[np.uint8]) -> Masks:
            self.calls += 1
            return super()._infer(image)

    blank = frozenset(range(10, 15))
    backend, sink = Counting(), ListSink(needs_picture=True)
    report = run(stream(Camera(20, 0.02, blank), sink, backend=backend, policy="all"))
    assert len(sink.results) == 20
    assert report.frames == backend.calls == 15
    for result in sink.results:
        is_blank = result.frame.index in blank
        assert result.frame.has_signal is not is_blank
        assert result.segmentation.infer_ms is None if is_blank else result.segmentation.infer_ms is not None
        if is_blank:
            assert result.area == 0
            assert not np.array_equal(result.picture, sink.results[0].picture)


def test_several_sources_share_the_engine_and_keep_their_frames_apart() -> None:
    backend = FakeBackend()
    sinks = [ListSink(), ListSink(), ListSink()]
    report = run(*(stream(ListSource(count), sink, backend=backend) for count, sink in zip((5, 40, 17), sinks, strict=True)))
    assert report.frames == 62
    for number, (count, sink) in enumerate(zip((5, 40, 17), sinks, strict=True)):
        assert sink.indices == list(range(count))
        assert [number_of(result.frame.rgb) for result in sink.results] == list(range(count))
        assert {result.stream for result in sink.results} == {number}
        assert sink.ended == ["closed"]


class Batches(Backend):
    """Marks the left as many columns as the red of the top left pixel says, and notes the size of every batch."""

    def __init__(self, batch: int | None, largest: int | None) -> None:
        self.name, self.spec, self.largest_batch = "batches", ModelSpec(FAKE_CARD, FAKE_CARD.size_hw, batch), largest
        self.sizes: list[int] = []

    def _infer(self, image: NDArray[np.uint8]) -> Masks:
        self.sizes.append(len(image))
        time.sleep(0.005)
        masks = np.zeros(image.shape[:3], np.uint8)
        for mask, picture in zip(masks, image, strict=True):
            mask[:, : int(picture[4, 4, 0])] = 1
        return Masks(masks, np.full_like(masks, 255))


@pytest.mark.parametrize(("batch", "engine", "largest"), [(None, None, 3), (None, 2, 2), (1, None, 1)])
def test_sources_go_through_the_network_together_as_far_as_it_takes_them(batch: int | None, engine: int | None, largest: int) -> None:
    backend = Batches(batch, engine)
    sinks = [ListSink() for _ in range(3)]
    streams = []
    for number, sink in enumerate(sinks):
        pictures = []
        for index in range(20):
            rgb = np.full((*FAKE_CARD.size_hw, 3), 10, np.uint8)
            rgb[::2] = 90  # a picture of one colour would be no picture
            rgb[:16, :16, 0] = 40 + 30 * number + index
            pictures.append(rgb)
        streams.append(stream(ListSource(pictures), sink, backend=backend))
    run(*streams)
    assert max(backend.sizes) == largest
    assert sum(backend.sizes) == 60
    for number, sink in enumerate(sinks):
        marked = [int(result.segmentation.mask[100].sum()) for result in sink.results]
        assert marked == [40 + 30 * number + index for index in range(20)]


def test_a_source_that_is_lost_ends_alone_and_is_told_at_the_end() -> None:
    backend = FakeBackend()
    first, second = ListSink(), ListSink()
    report = run(stream(Camera(10, error=LOST), first, backend=backend), stream(ListSource(50, seconds=0.01), second, backend=backend))
    assert report.error is LOST
    assert second.indices == list(range(50))
    assert first.ended == second.ended == ["closed"]


def test_a_source_that_is_lost_is_told_at_once_and_its_outputs_are_finalised_while_the_others_go_on() -> None:
    backend = FakeBackend()
    first, second = ListSink(), ListSink()
    told: list[tuple[str, int]] = []
    streams = [stream(Camera(5, error=LOST), first, backend=backend), stream(Camera(150, 0.02), second, backend=backend, policy="all")]
    ended: list[int] = []

    def watch(frames: int) -> None:
        if first.ended and not ended:
            ended.append(len(second.results))

    report = Pipeline(streams, on_frame=watch, on_failure=lambda error: told.append((str(error), len(second.results)))).run()
    assert [error for error, _ in told] == ["camera: lost"] and told[0][1] < 75
    assert first.ended == ["closed"] and ended[0] < 100
    assert report.error is LOST
    assert second.indices == list(range(150))


def test_an_engine_that_fails_ends_every_stream() -> None:
    backend = FakeBackend(fail_at=10)
    first, second = ListSink(), ListSink()
    report = run(stream(Camera(10_000), first, backend=backend), stream(Camera(10_000), second, backend=backend))
    assert "failed at call 10" in str(report.error)
    assert first.ended == second.ended == ["closed"]


def test_streams_with_engines_of_their_own_are_refused() -> None:
    with pytest.raises(UsageError, match="a run has one engine"):
        Pipeline([stream(ListSource(1)), stream(ListSource(1))])


def test_a_number_of_frames_ends_a_camera_that_never_ends() -> None:
    sink = ListSink()
    report = Pipeline([stream(Camera(10_000), sink, policy="all")], max_frames=12).run()
    assert (report.frames, sink.indices) == (12, list(range(12)))


def test_frames_without_signal_do_not_count_towards_it() -> None:
    sink = ListSink()
    report = Pipeline([stream(Camera(10_000, blank=frozenset(range(3, 40))), sink, policy="all")], max_frames=12).run()
    assert (report.frames, len(sink.results)) == (12, 12 + 37)


def test_an_output_that_hangs_does_not_keep_an_interrupted_run_from_ending() -> None:
    released = threading.Event()

    class Hanging(ListSink):
        def write(self, result: object) -> None:
            released.wait(20)

    class Interrupted(FakeBackend):
        calls = 0

        def _infer(self, image: NDArray[np.uint8]) -> Masks:
            self.calls += 1
            if self.calls == 20:
                raise KeyboardInterrupt
            return super()._infer(image)

    good = ListSink()
    started = time.perf_counter()
    report = run(stream(Camera(10_000), Hanging(), good, backend=Interrupted()))
    taken = time.perf_counter() - started
    released.set()
    assert report.interrupted
    assert "was not finalised within 2 s" in str(report.error)
    assert good.ended == ["closed"] and len(good.results) == report.frames > 0
    assert taken < 20 * 0.02 + 2.5


def test_an_output_that_holds_up_a_file_does_not_cost_the_others_their_end() -> None:
    released = threading.Event()

    class Hanging(ListSink):
        def write(self, result: object) -> None:
            released.wait(20)

    class SlowToClose(ListSink):
        def close(self) -> None:
            time.sleep(0.5)
            super().close()

    class Interrupted(FakeBackend):
        def _infer(self, image: NDArray[np.uint8]) -> Masks:
            if good.results:
                time.sleep(0.3)
                raise KeyboardInterrupt
            return super()._infer(image)

    good = SlowToClose()
    report = run(stream(ListSource(500), good, Hanging(), backend=Interrupted()))
    released.set()
    assert report.interrupted
    assert good.ended == ["closed"]
    assert [sink.error != "" for sink in report.snapshot.sinks] == [False, True]


def test_drawing_and_writing_go_on_while_the_network_works() -> None:
    """Stages overlap: a run takes as long as its slowest stage, not as all of them together."""
    frames, stage_s = 40, 0.02
    sink = ListSink(seconds=stage_s)
    started = time.perf_counter()
    run(stream(ListSource(frames, seconds=stage_s), sink, backend=FakeBackend(seconds=stage_s)))
    assert frames * stage_s < time.perf_counter() - started < 2 * frames * stage_s


def test_order_is_kept_whatever_the_stages_take() -> None:
    sink = ListSink()
    random = np.random.default_rng(0)

    class Uneven(FakeBackend):
        def _infer(self, image: NDArray[np.uint8]) -> Masks:
            time.sleep(float(random.uniform(0, 0.004)))
            return super()._infer(image)

    run(stream(ListSource(200), sink, backend=Uneven()))
    assert sink.indices == list(range(200))
    assert all(later.frame.time > earlier.frame.time for earlier, later in itertools.pairwise(sink.results))
