from __future__ import annotations

import pytest

from qtseg_edge.benchmark.results import Ratio
from qtseg_edge.benchmark.rounds import order
from qtseg_edge.errors import QtsegError
from tests.benchmark.made import candidate, result


def test_percentiles_are_times_that_were_measured_over_all_rounds() -> None:
    figures = result(candidate(), [float(n) for n in range(51, 101)], [float(n) for n in range(1, 51)]).figures("device_only")
    assert figures is not None
    assert (figures.count, figures.p10, figures.p50, figures.p95, figures.p99) == (100, 10.0, 50.0, 95.0, 99.0)
    assert figures.mean == pytest.approx(50.5)
    assert figures.fps == pytest.approx(1000 / 50.5)


def test_a_call_with_eight_images_gives_eight_times_the_frames() -> None:
    figures = result(candidate(batch=8), [20.0]).figures("device_only")
    assert figures is not None and figures.fps == pytest.approx(400)


def test_the_ratio_is_taken_round_by_round_so_that_a_slow_round_hits_both() -> None:
    first = result(candidate(), [10.0, 12.0, 11.0], [100.0, 110.0, 120.0], [10.0])
    other = result(candidate(), [5.0, 5.5, 6.0], [50.0, 55.0, 60.0], [2.5])
    assert other.times_as_fast_as(first, "device_only") == Ratio(2.0, 2.0, 4.0)
    assert first.times_as_fast_as(first, "device_only") == Ratio(1.0, 1.0, 1.0)


def test_the_ratio_counts_images_not_calls() -> None:
    ratio = result(candidate(batch=8), [40.0]).times_as_fast_as(result(candidate(), [10.0]), "device_only")
    assert ratio is not None and ratio.median == pytest.approx(2.0)


def test_a_round_that_was_interrupted_compares_those_that_both_have() -> None:
    first, other = result(candidate(), [10.0], [10.0]), result(candidate(), [5.0])
    assert other.times_as_fast_as(first, "device_only") == Ratio(2.0, 2.0, 2.0)
    assert result(candidate()).times_as_fast_as(first, "device_only") is None


def test_what_failed_on_the_way_has_no_figures() -> None:
    broken = result(candidate(), [10.0])
    broken.error = QtsegError("gone")
    assert broken.figures("device_only") is None
    assert broken.times_as_fast_as(result(candidate(), [1.0]), "device_only") is None


def test_frames_per_joule_are_frames_per_second_for_each_watt() -> None:
    board = result(candidate(), [10.0])
    assert board.frames_per_joule is None
    board.watts = [4.0, 6.0]
    assert board.frames_per_joule == pytest.approx(100 / 5)


def test_every_second_round_goes_backwards() -> None:
    assert [order(3, number) for number in range(3)] == [[0, 1, 2], [2, 1, 0], [0, 1, 2]]
