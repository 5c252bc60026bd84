from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtseg_edge.calibration.choose import NEAR_DUPLICATE, choose, coverage
from qtseg_edge.calibration.frames import Candidate
from qtseg_edge.calibration.look import Look


def candidates(features: np.ndarray, streams: int = 1, burnt_in: int = 0) -> list[Candidate]:
    """One per row, dealt to the streams in turn; every `burnt_in`-th with text, none for 0."""
    last = max(len(features) - 1, 1)
    looks = [Look(row, 0.5, 0.5, None, burnt_in > 0 and place % burnt_in == 0) for place, row in enumerate(features.astype(np.float32))]
    return [Candidate(place % streams, Path("a"), place, Fraction(place), place / last, look) for place, look in enumerate(looks)]


@pytest.mark.parametrize("streams", [1, 2])
def test_what_is_common_and_what_is_rare_are_both_shown_of_every_source(streams: int) -> None:
    """300 are alike, 40 differ from those and from each other."""
    common = np.pad(np.random.default_rng(0).uniform(0, 0.3, (300, 2)), ((0, 0), (0, 40)))
    rare = np.pad(np.eye(40), ((0, 0), (2, 0)))
    shown = choose(candidates(np.concatenate([common, rare]), streams), 20)
    for stream in range(streams):
        of_stream = [place for place in shown if place % streams == stream]
        assert len(of_stream) == 20 // streams
        assert 0.4 <= sum(place >= 300 for place in of_stream) / len(of_stream) <= 0.7


@given(seed=st.integers(0, 1000), count=st.integers(1, 40), among=st.integers(1, 60), streams=st.integers(1, 3), burnt_in=st.integers(0, 3))
def test_the_chosen_are_few_enough_in_order_and_no_near_duplicates(seed: int, count: int, among: int, streams: int, burnt_in: int) -> None:
    features = np.random.default_rng(seed).uniform(0, 0.2, (among, 2))
    given_ones = candidates(features, streams, burnt_in)
    shown = choose(given_ones, count)
    assert shown == choose(given_ones, count) == sorted(set(shown))
    assert 1 <= len(shown) <= count
    apart = np.linalg.norm(features[shown][:, None] - features[shown], axis=2) + np.eye(len(shown))
    assert apart.min() > NEAR_DUPLICATE - 1e-4
    if len(shown) < count:  # then every other one is a near-duplicate
        nearest = np.linalg.norm(features[:, None] - features[shown], axis=2).min(axis=1)
        assert nearest.max() < NEAR_DUPLICATE + 1e-4


def test_no_candidates_give_nothing() -> None:
    assert choose([], 32) == []


def test_coverage_is_whole_where_all_are_chosen_and_falls_with_what_is_left_out() -> None:
    given_ones = candidates(np.concatenate([np.zeros((90, 2)), np.ones((10, 2))]) + np.linspace(0, 0.01, 100)[:, None])
    assert coverage(given_ones, range(100)).covered == 1.0
    few = coverage(given_ones, range(0, 90, 2))
    assert few.covered == pytest.approx(0.9)
    assert few.largest_distance == pytest.approx(np.sqrt(2), abs=0.02)
