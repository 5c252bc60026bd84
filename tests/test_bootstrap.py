from __future__ import annotations

import math

import numpy as np
import pytest

from qtseg_edge.bootstrap import Estimate, estimate

NAN = float("nan")


def sample(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.8, 0.1, n)


def test_the_same_values_give_the_same_interval() -> None:
    assert estimate(sample(50)) == estimate(sample(50))


def test_the_mean_is_the_samples_and_lies_inside() -> None:
    found = estimate(sample(50))
    assert found.mean == pytest.approx(sample(50).mean())
    assert found.low < found.mean < found.high
    assert found.n == 50


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_is_the_one_of_theory(seed: int) -> None:
    values = sample(300, seed)
    found = estimate(values)
    half = 1.96 * values.std() / math.sqrt(300)
    assert (found.low, found.high) == (
        pytest.approx(values.mean() - half, abs=0.1 * half),
        pytest.approx(values.mean() + half, abs=0.1 * half),
    )


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    found = [estimate(sample(40, seed)) for seed in range(80)]
    assert 0.88 <= np.mean([each.low <= 0.8 <= each.high for each in found]) <= 1


def test_undefined_values_are_left_out() -> None:
    assert estimate(np.array([NAN, 0.5, NAN, 0.7, 0.9])) == estimate(np.array([0.5, 0.7, 0.9]))


def test_equal_values_have_no_width() -> None:
    assert estimate(np.full(20, 0.25)) == Estimate(0.25, 0.25, 0.25, 20)


def test_one_value_has_no_interval_and_none_no_mean() -> None:
    one, none = estimate(np.array([0.4, NAN])), estimate(np.array([NAN, NAN]))
    assert (one.mean, one.n) == (0.4, 1) and math.isnan(one.low) and math.isnan(one.high)
    assert none.n == 0 and math.isnan(none.mean) and math.isnan(none.low)
    assert estimate(np.array([])).n == 0


def test_more_images_than_fit_at_once_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = estimate(sample(50))
    monkeypatch.setattr("qtseg_edge.bootstrap._INDICES_AT_ONCE", 3 * 50 + 1)
    in_parts = estimate(sample(50))
    assert (in_parts.low, in_parts.high) == (pytest.approx(whole.low, abs=1e-3), pytest.approx(whole.high, abs=1e-3))
    monkeypatch.setattr("qtseg_edge.bootstrap._INDICES_AT_ONCE", 10)
    assert estimate(sample(50)).low == pytest.approx(whole.low, abs=1e-3)
