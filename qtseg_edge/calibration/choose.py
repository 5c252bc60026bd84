"""Which of the candidates: in turns the one that stands for most others, and the one that is least like those chosen.

The first keeps what is common in the set, the second what is rare; scales need both. The second alone (farthest-point selection) takes
nothing but the rare: 64 of 670 pictures of cells, most of which are dark, were nearly all bright.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.calibration.frames import Candidate

# Of 800 polyp frames a frame's nearest other one is 0.10 away (median), the same frame kept twice below 0.03.
NEAR_DUPLICATE = 0.03
_TIME_WEIGHT = 0.1  # from the beginning of a stream to its end: as much as between two rather similar frames
_PAIRED = 512  # candidates of which all pairs are measured, for what is typical


@dataclass(frozen=True)
class Coverage:
    """How well the chosen stand for the candidates; distances as of `Look.feature`.

    typical_distance: median between two candidates; alike_distance: below it are the most alike twentieth of all pairs. covered: share of
    the candidates that have a chosen one that near. median_distance, largest_distance: from a candidate to the nearest chosen one.
    brightness, saturation: of each, the 5th, 50th and 95th percentile over the candidates and over the chosen.
    """

    covered: float
    alike_distance: float
    typical_distance: float
    median_distance: float
    largest_distance: float
    brightness: dict[str, list[float]]
    saturation: dict[str, list[float]]


def choose(candidates: Sequence[Candidate], count: int) -> list[int]:
    """Indices of at most `count` candidates in rising order. Fewer where all others are near-duplicates of chosen ones.

    Frames with burnt-in text or boxes are taken only when the others do not suffice.
    """
    if not candidates:
        return []
    chosen: list[int] = []
    burnt_in = np.array([candidate.look.burnt_in for candidate in candidates])
    streams = np.array([candidate.stream for candidate in candidates])
    distances = _Distances(candidates)
    for allowed in (~burnt_in, burnt_in):
        while len(chosen) < count:
            free = allowed & (distances.looks >= NEAR_DUPLICATE)
            if not free.any():
                break
            taken = np.bincount(streams[chosen], minlength=streams.max() + 1)
            waiting = np.unique(streams[free])
            stream = waiting[np.argmin(taken[waiting])]
            turn = np.flatnonzero(free & (streams == stream))
            best = distances.rarest(turn) if taken[stream] % 2 else distances.most_common(turn)
            chosen.append(best)
            distances.take(best)
    return sorted(chosen)


def coverage(candidates: Sequence[Candidate], chosen: Sequence[int]) -> Coverage:
    """candidates: the usable ones, at least two; chosen: indices of at least one."""
    features = _features(candidates)
    few = features[:: -(-len(features) // _PAIRED)]
    pairs = np.concatenate([_distances(few[index + 1 :], few[index]) for index in range(len(few))])
    alike, typical = np.percentile(pairs, (5, 50))
    nearest = np.min([_distances(features, features[index]) for index in chosen], axis=0)
    return Coverage(
        covered=_rounded((nearest <= alike).mean()),
        alike_distance=_rounded(alike),
        typical_distance=_rounded(typical),
        median_distance=_rounded(np.median(nearest)),
        largest_distance=_rounded(nearest.max()),
        brightness=_spread([candidate.look.brightness for candidate in candidates], chosen),
        saturation=_spread([candidate.look.saturation for candidate in candidates], chosen),
    )


class _Distances:
    """looks: of every candidate to the nearest chosen one, by appearance; with_time: its place in the stream counts too."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._pairs = _all_distances(_features(candidates))  # (n, n)
        self._streams = np.array([candidate.stream for candidate in candidates])
        self._positions = np.array([candidate.position for candidate in candidates])
        self.looks = np.full(len(candidates), np.inf, np.float32)
        self.with_time = np.full(len(candidates), np.inf)

    def most_common(self, among: NDArray[np.intp]) -> int:
        """The one with which the nearest chosen would be nearest, summed over all candidates."""
        sums = [np.minimum(self._pairs[index], self.looks).sum(dtype=np.float64) for index in among]
        return int(among[np.argmin(sums)])

    def rarest(self, among: NDArray[np.intp]) -> int:
        return int(among[np.argmax(self.with_time[among])])

    def take(self, index: int) -> None:
        looks, same = self._pairs[index], self._streams == self._streams[index]
        apart = np.where(same, _TIME_WEIGHT * np.abs(self._positions - self._positions[index]), 0.0)
        self.with_time = np.minimum(self.with_time, np.hypot(looks, apart))
        self.looks = np.minimum(self.looks, looks)


def _features(candidates: Sequence[Candidate]) -> NDArray[np.float32]:
    """(n, d)."""
    return np.stack([candidate.look.feature for candidate in candidates])


def _all_distances(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, d) -> (n, n). Rounded, so that the order in which a machine adds things up does not decide a choice."""
    wide = features.astype(np.float64)
    squares = (wide * wide).sum(axis=1)
    squared = np.maximum(squares[:, np.newaxis] + squares - 2 * wide @ wide.T, 0)
    return np.sqrt(squared).round(5).astype(np.float32)  # type: ignore[no-any-return]


def _distances(features: NDArray[np.float32], to: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.linalg.norm(features - to, axis=1)  # type: ignore[no-any-return]


def _spread(values: list[float], chosen: Sequence[int]) -> dict[str, list[float]]:
    of = {"candidates": values, "chosen": [values[index] for index in chosen]}
    return {name: [_rounded(value) for value in np.percentile(part, (5, 50, 95))] for name, part in of.items()}


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)
