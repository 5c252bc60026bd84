from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from qtseg_edge.surface_distance import hausdorff95, surface_distances

Bool = NDArray[np.bool_]
pairs = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(lambda shape: st.tuples(*[arrays(np.bool_, shape)] * 2))


def slow_surface(mask: Bool) -> list[tuple[int, int]]:
    """Pixels of the mask with a neighbour, of four, that is not in it or not in the image."""
    padded = np.pad(mask, 1)
    found = []
    for y, x in np.argwhere(mask).tolist():
        if not (padded[y, x + 1] and padded[y + 2, x + 1] and padded[y + 1, x] and padded[y + 1, x + 2]):
            found.append((y, x))
    return found


def slow_percentile95(values: list[float]) -> float:
    ordered = sorted(values)
    position = 0.95 * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def slow_hausdorff95(first: Bool, second: Bool) -> float:
    a, b = slow_surface(first), slow_surface(second)
    if not a or not b:
        return float("nan")
    directed = ([min(math.dist(p, q) for q in there) for p in here] for here, there in ((a, b), (b, a)))
    return max(slow_percentile95(values) for values in directed)


@given(pairs)
@settings(max_examples=80)
def test_it_equals_a_slow_count(pair: tuple[Bool, Bool]) -> None:
    assert hausdorff95(*pair) == pytest.approx(slow_hausdorff95(*pair), abs=1e-4, nan_ok=True)


@given(pairs)
@settings(max_examples=40)
def test_it_is_symmetric_and_zero_of_a_mask_with_itself(pair: tuple[Bool, Bool]) -> None:
    first, second = pair
    assert hausdorff95(first, second) == pytest.approx(hausdorff95(second, first), nan_ok=True)
    assert hausdorff95(first, first) == 0 or not first.any()


def box(top: int, left: int, bottom: int, right: int) -> Bool:
    mask = np.zeros((200, 300), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_two_points_are_their_distance_apart() -> None:
    assert hausdorff95(box(10, 10, 11, 11), box(40, 50, 41, 51)) == pytest.approx(50)


def test_a_shifted_square_is_off_by_the_shift() -> None:
    assert hausdorff95(box(50, 50, 100, 100), box(50, 57, 100, 107)) == pytest.approx(7)


def test_a_speck_far_away_is_among_the_five_per_cent() -> None:
    square = box(50, 50, 100, 100)
    assert hausdorff95(square, square | box(150, 250, 151, 251)) == 0
    distances = surface_distances(square, square | box(150, 250, 151, 251))
    assert distances is not None and distances[1].max() > 150


def test_the_larger_direction_counts() -> None:
    """Every pixel of the small one lies in the large one's surface line, but not the reverse."""
    assert hausdorff95(box(50, 50, 51, 60), box(50, 50, 51, 160)) == pytest.approx(slow_percentile95([0.0] * 10 + list(range(1, 101))))


def test_the_border_of_the_image_is_a_surface() -> None:
    whole, inner = np.ones((20, 20), bool), np.zeros((20, 20), bool)
    inner[5:15, 5:15] = True
    assert hausdorff95(whole, inner) == pytest.approx(slow_hausdorff95(whole, inner), abs=1e-4)
    assert hausdorff95(whole, inner) > 4


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 300), (2000, 3)])
def test_an_empty_mask_has_no_distance(size_hw: tuple[int, int]) -> None:
    empty, full = np.zeros(size_hw, bool), np.ones(size_hw, bool)
    assert all(math.isnan(hausdorff95(*pair)) for pair in ((empty, empty), (empty, full), (full, empty)))
    assert hausdorff95(full, full) == 0


def test_distances_across_a_large_photograph_are_exact() -> None:
    points = np.random.default_rng(0).integers(0, (1200, 1500), (40, 2))
    first, second = np.zeros((1200, 1500), bool), np.zeros((1200, 1500), bool)
    first[tuple(points[:20].T)] = second[tuple(points[20:].T)] = True
    assert hausdorff95(first, second) == pytest.approx(slow_hausdorff95(first, second), abs=1e-4)
