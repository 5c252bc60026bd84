"""Where to clip an activation for INT8: at the largest value seen, at a percentile, or where the least information is lost.

The entropy method is TensorRT's (Migacz, "8-bit Inference with TensorRT", 2017): of all places to clip at, the one whose 128 levels give
the distribution nearest to the clipped one by Kullback and Leibler's measure. ONNX Runtime has it too, in loops that take minutes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["minmax", "entropy", "percentile"]
METHODS: tuple[Method, ...] = ("minmax", "entropy", "percentile")
_BINS = 2048
_LEVELS = 128
_CANDIDATE_STEP = 8
_PERCENTILE = 99.999
# What thresholds depend on besides the values, for caches.
CONSTANTS = (_BINS, _LEVELS, _CANDIDATE_STEP, _PERCENTILE)


class Histogram:
    """Of magnitudes, of a tensor over many images, in one pass: where a value lies beyond its top, bins are merged in pairs."""

    def __init__(self) -> None:
        self.largest = 0.0
        self._top = 0.0
        self._counts = np.zeros(_BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """values: of any shape, all finite."""
        magnitudes = np.abs(values).ravel()
        largest = float(magnitudes.max(initial=0.0))
        self.largest = max(self.largest, largest)
        self._top = self._top or largest
        if self._top == 0.0:
            return  # nothing but zeros so far, which no scale loses
        while largest > self._top:
            self._counts = np.concatenate([self._counts.reshape(-1, 2).sum(axis=1), np.zeros(_BINS // 2, np.int64)])
            self._top *= 2
        self._counts += np.histogram(magnitudes, _BINS, (0.0, self._top))[0]

    def threshold(self, method: Method) -> float:
        """The magnitude that becomes 127; what is larger is clipped to it."""
        if method == "minmax" or self._top == 0.0:
            return self.largest
        bins = self._percentile_bins() if method == "percentile" else _least_divergent(self._counts)
        return min(bins * self._top / _BINS, self.largest)

    def _percentile_bins(self) -> int:
        wanted = _PERCENTILE / 100 * float(self._counts.sum())
        return int(np.searchsorted(np.cumsum(self._counts), wanted)) + 1


def _least_divergent(counts: NDArray[np.int64]) -> int:
    """How many bins to keep. The first bin holds the zeros, which every scale keeps, and would outweigh all else."""
    of_bins = counts.astype(np.float64)
    of_bins[0] = of_bins[1]
    used = int(np.flatnonzero(counts)[-1]) + 1
    candidates: list[int] = [*range(_LEVELS, used, _CANDIDATE_STEP), max(used, _LEVELS)]
    divergences = [_divergence(of_bins, kept) for kept in candidates]
    return candidates[int(np.argmin(divergences))]


def _divergence(counts: NDArray[np.float64], kept: int) -> float:
    """Of the first `kept` bins, with all beyond in the last of them, from the same in 128 levels."""
    clipped = counts[:kept].copy()
    clipped[-1] += counts[kept:].sum()
    starts = np.arange(_LEVELS) * kept // _LEVELS
    lengths = np.diff(np.append(starts, kept))
    filled = counts[:kept] > 0
    in_level = np.add.reduceat(counts[:kept], starts)
    filled_in_level = np.add.reduceat(filled.astype(np.float64), starts)
    spread = np.divide(in_level, filled_in_level, out=np.zeros(_LEVELS), where=filled_in_level > 0)
    quantised = np.where(filled, np.repeat(spread, lengths), 0.0)
    if quantised.sum() == 0.0:
        return float("inf")
    wanted, found = clipped / clipped.sum(), quantised / quantised.sum()
    lost = np.where(wanted > 0, np.maximum(found, 1e-12), 1.0)
    return float(np.sum(np.where(wanted > 0, wanted * np.log(np.maximum(wanted, 1e-12) / lost), 0.0)))
