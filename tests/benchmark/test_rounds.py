"""Turns, failures and interrupts, with a stand-in for the engine that writes down when it was called."""

from __future__ import annotations

import os
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from qtseg_edge.benchmark.results import Result, Settings
from qtseg_edge.benchmark.rounds import Rounds
from qtseg_edge.board.reading import BoardReading
from qtseg_edge.errors import IncompatibleError
from tests.benchmark.conftest import Models
from tests.benchmark.made import candidate
from tests.export.builds import builders_of
from tests.jetson.boards import program
from tests.jetson.recorded import THOR

SETTINGS = Settings(rounds=3, seconds=0.05)
Call = tuple[str, int, int, int]  # name, process, start and end


def results_of(paths: list[Path]) -> list[Result]:
    return [Result(candidate(path.name, folder=path.parent, size_hw=(64, 64))) for path in paths]


def calls_in(log: Path) -> list[Call]:
    rows = [line.split() for line in log.read_text().splitlines()]
    return sorted(((name, int(process), int(start), int(end)) for name, process, start, end in rows), key=lambda call: call[2])


def test_candidates_take_turns_that_never_overlap_and_every_second_round_goes_backwards(
    models: Models, stand_in: Path, tmp_path: Path
) -> None:
    quick, slow, last = results = results_of(models("a", "slow", "c"))
    assert Rounds(results, SETTINGS).run(tmp_path)
    calls = calls_in(stand_in)
    assert all(before[3] <= after[2] for before, after in pairwise(calls))
    turns = [name for name, _ in groupby(call[0] for call in calls)]
    opening, measuring, comparing = ["a", "slow", "c"], ["a", "slow", "c", "slow", "a", "slow", "c"], ["a", "slow", "c"]
    assert turns == [*opening, *measuring, *comparing]
    assert len({call[1] for call in calls}) == 3, "each in a process of its own"
    assert builders_of(os.getpid()) == []
    assert [len(one.samples[way]) for one in results for way in one.samples] == [3] * 6, "every block is kept, by round"
    ratio, figures = slow.times_as_fast_as(quick, "device_only"), slow.figures("device_only")
    assert ratio is not None and ratio.median < 0.8 and figures is not None and figures.p10 >= 20
    assert slow.memory_bytes is not None and slow.open_seconds is not None and slow.gpu_bytes is last.error is None


class Board:
    """Throttled during the second block of the first candidate: told behind it."""

    def __init__(self) -> None:
        self.asked = 0

    def read(self) -> BoardReading:
        self.asked += 1
        return BoardReading({"tj": 99.0}, None, "board", ("under-voltage",) if self.asked == 4 else ())


def test_power_heat_clock_and_throttling_are_noted_by_candidate(
    models: Models, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "tegrastats", f'while echo "{THOR}"; do sleep 0.01; done', monkeypatch)
    results = results_of(models("a", "c"))
    results[1].throttled = ["gpu over temperature"]  # by a block before
    board = Board()
    assert Rounds(results, Settings(rounds=1, seconds=0.05), board=board).run(tmp_path)
    first, second = results
    assert first.throttled == ["under-voltage"] and second.throttled == ["gpu over temperature"]
    assert board.asked == 8, "before and behind each of four blocks"
    for one in results:
        assert (one.celsius, one.gpu_mhz, one.watts) == ([38.875], [314], [pytest.approx(19.78)]), "of the block end to end"


def test_masks_are_compared_with_those_of_the_same_network_in_fp32(models: Models, stand_in: Path, tmp_path: Path) -> None:
    paths = models("a", "b", "slow", "other")
    results = results_of(paths[:3])
    results[0].candidate = candidate("a.onnx", folder=tmp_path, size_hw=(64, 64), precision="int8")
    results += [Result(candidate("other.onnx", folder=tmp_path, size_hw=(64, 64), network="another", precision="int8"))]
    Rounds(results, Settings(rounds=1, seconds=0.01)).run(tmp_path)
    int8, reference, slow, other = results
    assert int8.reference is reference.reference is slow.reference is reference.candidate
    assert (int8.pixels_equal, int8.mask_iou, reference.pixels_equal) == (1.0, 1.0, 1.0)
    assert slow.pixels_equal is not None and slow.mask_iou is not None, "its masks are a little larger"
    assert 0.9 < slow.pixels_equal < 1 and 0.5 < slow.mask_iou < 1
    assert other.reference is other.pixels_equal is None, "nothing of its network computes in FP32"


def test_who_fails_on_the_way_is_left_out_and_the_others_go_on(models: Models, stand_in: Path, tmp_path: Path) -> None:
    results = results_of(models("refused", "a", "crashing", "failing"))
    rounds = Rounds(results, Settings(rounds=2, seconds=0.02))
    assert rounds.run(tmp_path)
    refused, good, crashing, failing = results
    assert isinstance(refused.error, IncompatibleError) and "no such operation" in str(refused.error)
    assert "crashed (SIGABRT): out of luck" in str(crashing.error) and "no longer" in str(failing.error)
    assert good.error is None and good.figures("end_to_end") is not None and good.pixels_equal == 1.0
    assert rounds.rates, "and the machine was measured"


def test_an_interrupt_keeps_what_was_measured_and_leaves_no_process(models: Models, stand_in: Path, tmp_path: Path) -> None:
    def told(step: str) -> None:
        if step == "round 2 of 3":
            raise KeyboardInterrupt

    results = results_of(models("a", "slow"))
    rounds = Rounds(results, SETTINGS, told)
    assert not rounds.run(tmp_path)
    assert [len(one.samples["end_to_end"]) for one in results] == [1, 1]
    assert builders_of(os.getpid()) == []
    assert {rate.what for rate in rounds.rates} >= {"FP32", "bytes"}


def test_a_machine_whose_rates_cannot_be_measured_still_times_its_candidates(
    models: Models, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules" / "openvino.py").write_text("import os\nos.abort()\n", encoding="utf-8")
    results, steps = results_of(models("a")), []
    rounds = Rounds(results, Settings(rounds=1, seconds=0.02), steps.append)
    assert rounds.run(tmp_path)
    assert results[0].figures("device_only") is not None and rounds.rates == []
    assert [step for step in steps if "rates cannot be measured: its process crashed (SIGABRT)" in step]
