from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qtseg_edge.runtime.timing import LatencyHistogram

TOLERANCE = 0.006  # half a bucket, and the rounding of its edges
latencies = st.lists(st.floats(0.001, 1e6, allow_nan=False), min_size=1, max_size=300)


def histogram_of(values: list[float]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(latencies)
@example([5.0] * 20 + [7.0])  # 0.95 of 21: the rank is not a whole number
@example([1.0] * 19 + [100.0])  # 0.95 of 20 is exactly 19
@example([1.0] * 99 + [100.0])  # 0.99 of 100 is exactly 99
@settings(max_examples=200, deadline=None)
def test_percentiles_are_those_of_numpys_nearest_rank(values: list[float]) -> None:
    found = histogram_of(values).percentiles()
    wanted = np.percentile(values, [50, 95, 99], method="inverted_cdf")
    assert [found.p50, found.p95, found.p99] == pytest.approx(wanted, rel=TOLERANCE)


@given(latencies)
@settings(max_examples=50, deadline=None)
def test_count_mean_and_maximum_are_exact_and_percentiles_lie_within(values: list[float]) -> None:
    found = histogram_of(values).percentiles()
    assert found.count == len(values)
    assert found.mean == pytest.approx(np.mean(values), rel=1e-9)
    assert found.max == max(values)
    assert min(values) <= found.p50 <= found.p95 <= found.p99 <= found.max


def test_ranks_are_right_for_every_count() -> None:
    """0.95 x n in floating point can lie above the whole number that it is."""
    histogram, values = LatencyHistogram(), [0.01 * 1.04**rank for rank in range(400)]
    for count, value in enumerate(values, 1):
        histogram.add(value)
        found = histogram.percentiles()
        wanted = [values[-(-share * count // 100) - 1] for share in (50, 95, 99)]
        assert [found.p50, found.p95, found.p99] == pytest.approx(wanted, rel=TOLERANCE), count


def test_nothing_measured_gives_zeros() -> None:
    found = LatencyHistogram().percentiles()
    assert (found.count, found.mean, found.p50, found.p95, found.p99, found.max) == (0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_a_single_value_is_every_percentile() -> None:
    found = histogram_of([12.34]).percentiles()
    assert (found.p50, found.p95, found.p99, found.max) == (12.34, 12.34, 12.34, 12.34)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-9])
def test_what_no_clock_can_measure_counts_as_a_microsecond(value: float) -> None:
    assert histogram_of([value]).percentiles().p50 == 0.001


def test_a_latency_beyond_the_last_bucket_is_still_counted() -> None:
    found = histogram_of([1.0, 1e9]).percentiles()
    assert found.max == 1e9
    assert found.count == 2
