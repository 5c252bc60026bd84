from __future__ import annotations

import _thread
import itertools
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, SourceLostError
from qtseg_edge.runtime import FakeBackend, Masks, Pipeline, RunReport
from qtseg_edge.runtime.frames import Frame, Source
from qtseg_edge.runtime.handoff import Policy
from qtseg_edge.runtime.monitor import STAGES
from qtseg_edge.runtime.sinks import open_sinks
from qtseg_edge.runtime.sinks.base import Sink
from tests.disks import small_disk
from tests.media import decoded, number_of, numbered_frames
from tests.runtime.stand_ins import ListSink, ListSource, frame_of, info, stream

pytestmark = [pytest.mark.timeout(20), pytest.mark.usefixtures("no_thread_is_left")]
LOST = SourceLostError("clip.mp4: broke")


def run(source: Source, *sinks: Sink, backend: FakeBackend | None = None, policy: Policy = "all") -> RunReport:
    return Pipeline([stream(source, *sinks, backend=backend, policy=policy)]).run()


class EndlessSource(Source):
    """A camera: a frame every `seconds`, until it is released. One that hangs does not even notice that it is closed."""

    def __init__(self, seconds: float = 0.002, hangs: bool = False) -> None:
        self.info = info()
        self.released = threading.Event()
        self._seconds, self._hangs, self._rgb = seconds, hangs, numbered_frames(1)[0]

    def __iter__(self) -> Iterator[Frame]:
        for index in itertools.count():
            yield frame_of(self._rgb, index)
            if self.released.wait(self._seconds):
                return

    def close(self) -> None:
        if not self._hangs:
            self.released.set()


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_every_frame_is_written_once_in_order(count: int) -> None:
    sink = ListSink()
    report = run(ListSource(count), sink)
    assert sink.indices == list(range(count))
    assert [number_of(result.frame.rgb) for result in sink.results] == list(range(count))
    assert sink.ended == ["closed"]
    assert (report.frames, report.dropped, report.error, report.interrupted) == (count, 0, None, False)


def test_each_mask_belongs_to_its_frame() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 100, (48, 64, 3), dtype=np.uint8) for _ in range(20)]
    for index, frame in enumerate(frames):
        frame[10:30, index : index + 20, 0] = 250
    sink = ListSink()
    run(ListSource(frames), sink)
    for index, result in enumerate(sink.results):
        xs = result.segmentation.mask.nonzero()[1]
        assert abs(int(xs.min()) - index) <= 1 and abs(int(xs.max()) - (index + 19)) <= 1


def test_every_output_gets_every_frame_and_only_one_drawing_is_made() -> None:
    first, second, plain = ListSink(needs_picture=True), ListSink(needs_picture=True), ListSink()
    run(ListSource(5), first, second, plain)
    assert first.indices == second.indices == plain.indices == [0, 1, 2, 3, 4]
    assert all(a.picture is b.picture for a, b in zip(first.results, second.results, strict=True))


def test_nothing_is_drawn_where_no_output_wants_it() -> None:
    sink = ListSink()
    report = run(ListSource(3), sink)
    assert not any("picture" in vars(result) for result in sink.results)
    assert report.stages["draw"].max < 1


@pytest.mark.parametrize("fail_at", [1, 2, 5, 19])
def test_a_source_that_fails_leaves_every_frame_before_it(fail_at: int) -> None:
    first, second = ListSink(), ListSink(seconds=0.002)
    report = run(ListSource(20, fail_at=fail_at, error=LOST), first, second)
    assert report.error is LOST
    assert report.frames == fail_at
    assert first.indices == second.indices == list(range(fail_at))
    assert first.ended == second.ended == ["closed"]


def test_a_source_that_fails_before_its_first_frame_leaves_nothing() -> None:
    sink = ListSink()
    report = run(ListSource(20, fail_at=0, error=LOST), sink)
    assert (report.error, report.frames, report.fps) == (LOST, 0, 0.0)
    assert sink.ended == ["abandoned"]
    assert all(values.count == 0 for values in report.stages.values())


def test_a_source_without_frames_leaves_nothing() -> None:
    sink = ListSink()
    report = run(ListSource([]), sink)
    assert (report.error, report.frames) == (None, 0)
    assert sink.ended == ["abandoned"]


@pytest.mark.parametrize("fail_at", [1, 2, 5, 19])
def test_a_backend_that_fails_leaves_every_frame_before_it(fail_at: int) -> None:
    first, second = ListSink(), ListSink(seconds=0.002)
    report = run(ListSource(20), first, second, backend=FakeBackend(fail_at=fail_at))
    assert "failed at call" in str(report.error)
    assert first.indices == second.indices == list(range(fail_at))
    assert first.ended == second.ended == ["closed"]


def test_a_backend_that_fails_on_the_first_frame_leaves_nothing() -> None:
    sink = ListSink()
    report = run(ListSource(20), sink, backend=FakeBackend(fail_at=0))
    assert "failed at call 0" in str(report.error)
    assert (report.frames, sink.ended) == (0, ["abandoned"])


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("fail_at", [0, 1, 7])
def test_an_output_that_fails_is_abandoned_and_the_others_go_on(place: int, fail_at: int) -> None:
    sinks = [ListSink(), ListSink(), ListSink()]
    sinks[place] = ListSink(fail_at=fail_at, error=QtsegError("disk full"))
    report = run(ListSource(20), *sinks)
    assert str(report.error) == "disk full"
    assert report.frames == 20
    for index, sink in enumerate(sinks):
        assert sink.ended == (["abandoned"] if index == place else ["closed"])
        assert sink.indices == list(range(fail_at if index == place else 20))
    assert [sink.error for sink in report.snapshot.sinks] == ["disk full" if index == place else "" for index in range(3)]


def test_a_failure_is_told_when_it_happens_not_at_the_end() -> None:
    told: list[tuple[str, int]] = []
    good, broken = ListSink(), ListSink(fail_at=2, error=QtsegError("disk full"))
    source = ListSource(40, seconds=0.005)
    Pipeline([stream(source, good, broken)], on_failure=lambda error: told.append((str(error), len(good.results)))).run()
    ((error, written),) = told
    assert error == "disk full"
    assert written < 20
    assert len(good.results) == 40


def test_the_run_ends_when_the_last_output_has_failed() -> None:
    first, second = ListSink(fail_at=2, error=QtsegError("first")), ListSink(fail_at=5, error=QtsegError("second"))
    told: list[str] = []
    report = Pipeline([stream(EndlessSource(), first, second)], on_failure=lambda error: told.append(str(error))).run()
    assert (told, str(report.error)) == (["first"], "second")
    assert first.ended == second.ended == ["abandoned"]


@pytest.mark.parametrize("what", ["engine", "source"])
def test_what_ends_a_run_is_reported_although_an_output_had_failed_before(what: str) -> None:
    source = ListSource(20, fail_at=15 if what == "source" else None, error=LOST, seconds=0.005)
    backend = FakeBackend(fail_at=15 if what == "engine" else None)
    report = run(source, ListSink(), ListSink(fail_at=2, error=QtsegError("disk full")), backend=backend)
    assert ("failed at call 15" if what == "engine" else str(LOST)) in str(report.error)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_output_that_cannot_be_finalised_is_an_error_and_the_others_are_finalised(place: int) -> None:
    sinks = [ListSink(), ListSink(), ListSink()]
    sinks[place] = ListSink(error=QtsegError("disk full"), fail_to_close=True)
    report = run(ListSource(5), *sinks)
    assert (str(report.error), report.frames) == ("disk full", 5)
    assert [sink.ended for sink in sinks] == [["closed"]] * 3


def test_the_first_failure_is_the_one_reported() -> None:
    sink = ListSink(error=QtsegError("second"), fail_to_close=True)
    report = run(ListSource(9, fail_at=4, error=QtsegError("first")), sink)
    assert str(report.error) == "first"


@pytest.mark.parametrize("where", ["source", "sink", "close"])
def test_a_mistake_in_the_program_is_raised_again_after_the_outputs_are_ended(where: str) -> None:
    mistake = ZeroDivisionError("a mistake")
    source = ListSource(9, fail_at=4, error=mistake) if where == "source" else ListSource(9)
    broken = ListSink(fail_at=4, error=mistake, fail_to_close=where == "close") if where != "source" else ListSink()
    if where == "close":
        broken = ListSink(error=mistake, fail_to_close=True)
    other = ListSink()
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        run(source, broken, other)
    assert len(broken.ended) == 1
    assert other.ended == ["closed"]


@pytest.mark.parametrize("policy", ["all", "latest"])
def test_an_output_that_fails_stops_a_source_that_never_ends(policy: Policy) -> None:
    sink = ListSink(fail_at=3, error=QtsegError("disk full"))
    assert str(run(EndlessSource(), sink, policy=policy).error) == "disk full"


@pytest.mark.parametrize("policy", ["all", "latest"])
def test_a_backend_that_fails_stops_a_source_that_never_ends(policy: Policy) -> None:
    report = run(EndlessSource(), ListSink(), backend=FakeBackend(fail_at=3), policy=policy)
    assert "failed at call 3" in str(report.error)


def test_an_output_that_fails_does_not_wait_for_a_source_that_stands_still() -> None:
    """A camera whose cable is out gives no next frame, and its read does not return."""
    source = EndlessSource(seconds=15, hangs=True)
    started = time.perf_counter()
    report = run(source, ListSink(fail_at=0, error=QtsegError("disk full")))
    assert str(report.error) == "disk full"
    assert time.perf_counter() - started < 5
    source.released.set()


class InterruptedBackend(FakeBackend):
    """The user presses Ctrl-C during call number `at`."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at, self.calls = at, 0

    def _infer(self, image: NDArray[np.uint8]) -> Masks:
        if self.calls == self._at:
            raise KeyboardInterrupt
        self.calls += 1
        return super()._infer(image)


@pytest.mark.parametrize("policy", ["all", "latest"])
def test_an_interrupt_finalises_what_was_segmented_until_then(policy: Policy) -> None:
    sink = ListSink(seconds=0.002)
    report = run(EndlessSource(), sink, backend=InterruptedBackend(7), policy=policy)
    assert (report.interrupted, report.error, report.frames) == (True, None, 7)
    assert len(sink.results) == 7
    assert sink.ended == ["closed"]


def test_an_interrupt_before_the_first_result_leaves_nothing() -> None:
    sink = ListSink()
    report = run(EndlessSource(), sink, backend=InterruptedBackend(0))
    assert (report.interrupted, report.frames, sink.ended) == (True, 0, ["abandoned"])


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Where the tests run in the background of a shell, Ctrl-C is ignored, and Python then does not turn it into KeyboardInterrupt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupts_while_the_outputs_are_finalised_do_not_cut_that_short() -> None:
    class SlowToClose(ListSink):
        def close(self) -> None:
            for _ in range(3):
                _thread.interrupt_main()
                time.sleep(0.02)
            super().close()

    first, second = SlowToClose(), SlowToClose()
    report = run(ListSource(5), first, second)
    assert (report.interrupted, report.frames) == (True, 5)
    assert first.ended == second.ended == ["closed"]


def test_all_never_drops_however_slow_the_rest_is() -> None:
    sink = ListSink(seconds=0.005)
    report = run(ListSource(30), sink, backend=FakeBackend(seconds=0.002))
    assert (report.frames, report.dropped) == (30, 0)


def test_latest_drops_and_counts_what_cannot_keep_up_and_keeps_the_order() -> None:
    sink = ListSink()
    report = run(ListSource(60, seconds=0.002), sink, backend=FakeBackend(seconds=0.02), policy="latest")
    assert report.dropped > 10
    assert report.frames + report.dropped == 60
    assert sink.indices == sorted(set(sink.indices))
    assert sink.indices[-1] == 59  # the newest is never the one that is dropped


def test_latest_gives_the_newest_frames_to_a_slow_backend() -> None:
    sink = ListSink()
    run(ListSource(100, seconds=0.002), sink, backend=FakeBackend(seconds=0.04), policy="latest")
    behind = [later - earlier for earlier, later in itertools.pairwise(sink.indices)]
    assert np.median(behind) >= 5


def test_progress_counts_the_frames_that_were_written() -> None:
    seen: list[int] = []
    Pipeline([stream(ListSource(6), ListSink())], on_frame=seen.append).run()
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_failing_progress_display_ends_the_run_with_its_outputs() -> None:
    def shown(done: int) -> None:
        if done == 3:
            raise BrokenPipeError("the terminal is gone")

    sink = ListSink()
    with pytest.raises(BrokenPipeError, match="the terminal is gone"):
        Pipeline([stream(ListSource(6), sink)], on_frame=shown).run()
    assert sink.ended == ["closed"]


def test_the_report_counts_every_stage_of_every_frame() -> None:
    report = run(ListSource(25, seconds=0.001), ListSink(needs_picture=True, seconds=0.003), backend=FakeBackend(seconds=0.005))
    assert tuple(report.stages) == STAGES
    assert {values.count for values in report.stages.values()} == {25}
    assert 5 <= report.stages["infer"].p50 <= report.stages["infer"].p95 <= report.stages["infer"].max
    assert report.stages["write"].p50 >= 3
    assert report.stages["end to end"].p50 >= report.stages["infer"].p50 + report.stages["write"].p50
    assert report.stages["draw"].max > 0


def test_the_report_has_the_rate_over_the_whole_run() -> None:
    report = run(ListSource(20, seconds=0.01), ListSink())
    assert report.seconds >= 0.2
    assert report.fps == pytest.approx(20 / report.seconds)


def test_the_report_counts_frames_with_foreground() -> None:
    dark, marked = np.random.default_rng(0).integers(0, 100, (2, 48, 64, 3), dtype=np.uint8)
    marked[10:30, 10:30, 0] = 250
    report = run(ListSource([dark, marked, dark, marked, marked]), ListSink())
    assert (report.frames, report.foreground_frames) == (5, 3)


@pytest.mark.parametrize("fail_at", [None, 4])
def test_real_outputs_hold_what_the_report_says(tmp_path: Path, fail_at: int | None) -> None:
    source = ListSource(10, fail_at=fail_at, error=LOST)
    outputs = [str(tmp_path / "a.mp4"), str(tmp_path / "a.jsonl"), f"{tmp_path}/masks/"]
    report = run(source, *open_sinks(outputs, source.info))
    written = 10 if fail_at is None else fail_at
    assert report.frames == written
    assert [number_of(picture) for picture in decoded(tmp_path / "a.mp4")] == list(range(written))
    assert len((tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()) == written
    assert len(list((tmp_path / "masks").iterdir())) == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.mp4", "masks"]


@pytest.mark.parametrize("what", ["source", "backend"])
def test_real_outputs_are_not_begun_where_nothing_was_written(tmp_path: Path, what: str) -> None:
    source = ListSource(10, fail_at=0 if what == "source" else None, error=LOST)
    sinks = open_sinks([str(tmp_path / "a.mp4"), str(tmp_path / "a.jsonl")], source.info)
    run(source, *sinks, backend=FakeBackend(fail_at=0))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_stops_one_output_and_the_others_go_on(tmp_path: Path) -> None:
    noise: list[NDArray[np.uint8]] = list(np.random.default_rng(0).integers(0, 256, (120, 96, 128, 3), dtype=np.uint8))
    source = ListSource(noise)
    with small_disk():
        report = run(source, *open_sinks([str(tmp_path / "a.mp4"), f"{tmp_path}/masks/"], source.info))
    assert "a.mp4: cannot be written (File too large)" in str(report.error)
    assert report.frames == 120
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]
    assert len(list((tmp_path / "masks").iterdir())) == 120
