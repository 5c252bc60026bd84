"""Means over images with percentile bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
COVERAGE_PERCENT = 95
_INDICES_AT_ONCE = 1_000_000  # a few MB, however many images there are


@dataclass(frozen=True)
class Estimate:
    """The mean of `n` values with its 95 % interval `low` to `high`. The interval is nan for one value, all are nan for none."""

    mean: float
    low: float
    high: float
    n: int


def estimate(values: NDArray[np.float64]) -> Estimate:
    """values: one per image, nan where undefined: those are left out. The same values always give the same interval."""
    defined = values[~np.isnan(values)]
    n = len(defined)
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    if n == 1:
        return Estimate(float(defined[0]), float("nan"), float("nan"), 1)
    random = np.random.default_rng(0)
    at_once = max(1, _INDICES_AT_ONCE // n)
    counts = [min(at_once, RESAMPLES - start) for start in range(0, RESAMPLES, at_once)]
    means = np.concatenate([defined[random.integers(n, size=(count, n))].mean(axis=1) for count in counts])  # (RESAMPLES,)
    tail = (100 - COVERAGE_PERCENT) / 2
    low, high = np.percentile(means, (tail, 100 - tail))
    return Estimate(float(defined.mean()), float(low), float(high), n)
