from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qtseg_edge.export.precision.histogram import METHODS, Histogram, Method

FINITE = st.floats(-1e4, 1e4, width=32)


def of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part.astype(np.float32))
    return histogram


def error(values: np.ndarray, threshold: float) -> float:
    """Mean square of what INT8 loses."""
    scale = threshold / 127
    return float(np.mean((np.clip(np.rint(values / scale), -127, 127) * scale - values) ** 2))


@settings(max_examples=60, deadline=None)
@given(st.lists(arrays(np.float32, st.integers(0, 50), elements=FINITE), max_size=5), st.sampled_from(METHODS))
def test_a_threshold_is_positive_and_never_beyond_what_was_seen(parts: list[np.ndarray], method: Method) -> None:
    histogram = of(*parts)
    largest = max((float(np.abs(part).max(initial=0.0)) for part in parts), default=0.0)
    assert histogram.largest == largest
    threshold = histogram.threshold(method)
    assert 0.0 <= threshold <= largest
    assert (threshold > 0.0) == (largest > 0.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_images_hardly_matters(seed: int) -> None:
    random = np.random.default_rng(seed)
    parts = [random.normal(0, width, 2000) for width in (0.01, 1.0, 30.0)]
    first, second = of(*parts), of(*reversed(parts))
    assert first.threshold("percentile") == pytest.approx(second.threshold("percentile"), rel=0.02)


def test_minmax_keeps_the_largest() -> None:
    assert of(np.array([0.5, -3.0]), np.array([2.0])).threshold("minmax") == 3.0


def test_the_percentile_leaves_one_in_a_hundred_thousand_out() -> None:
    values = np.concatenate([np.linspace(0, 1, 1_000_000), [50.0] * 5])
    assert of(values).threshold("percentile") == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_entropy_drops_far_outliers_and_loses_less_for_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = np.concatenate([random.laplace(0, 1, 200_000), random.normal(0, 1, 20) * 5 + 60])
    threshold = of(values).threshold("entropy")
    assert 5 < threshold < 40
    bulk = values[np.abs(values) < 20]
    assert error(bulk, threshold) < error(bulk, float(np.abs(values).max())) / 2


def test_entropy_keeps_all_of_an_even_distribution() -> None:
    values = np.random.default_rng(0).uniform(-4, 4, 200_000)
    assert of(values).threshold("entropy") > 3.8


def test_zeros_alone_lose_nothing() -> None:
    assert {of(np.zeros(10), np.zeros(3)).threshold(method) for method in METHODS} == {0.0}


def test_an_activation_with_many_zeros_is_judged_by_the_rest() -> None:
    random = np.random.default_rng(1)
    rest = np.abs(random.normal(0, 1, 10_000))
    mostly_zero = np.concatenate([np.zeros(1_000_000), rest])
    assert of(mostly_zero).threshold("entropy") == pytest.approx(of(rest).threshold("entropy"), rel=0.15)
