from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qtseg_edge.runtime.regions import contours_of, regions_of, where_class

Uint8 = NDArray[np.uint8]
masks = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 2))


def flood_filled(mask: Uint8) -> list[tuple[int, frozenset[tuple[int, int]]]]:
    """The components (class, pixels) by the definition: 8 neighbours of the same class."""
    left = {(int(y), int(x)) for y, x in zip(*mask.nonzero(), strict=True)}
    found = []
    while left:
        start = left.pop()
        pixels, queue = {start}, deque([start])
        while queue:
            y, x = queue.popleft()
            for near in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                if near in left and mask[near] == mask[start]:
                    left.remove(near)
                    pixels.add(near)
                    queue.append(near)
        found.append((int(mask[start]), frozenset(pixels)))
    return found


@given(masks, st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_regions_are_the_connected_components(mask: Uint8, seed: int) -> None:
    confidence = np.random.default_rng(seed).integers(0, 256, mask.shape, dtype=np.uint8)
    regions = regions_of(mask, confidence)
    wanted = []
    for class_index, pixels in flood_filled(mask):
        ys, xs = zip(*pixels, strict=True)
        box = (min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1)
        wanted.append((class_index, len(pixels), box, round(float(np.mean([confidence[p] for p in pixels])) / 255, 6)))
    assert sorted((r.class_index, r.area, r.box, round(r.confidence, 6)) for r in regions) == sorted(wanted)
    assert [region.area for region in regions] == sorted((region.area for region in regions), reverse=True)
    assert sum(region.area for region in regions) == np.count_nonzero(mask)


@given(masks)
@settings(max_examples=100)
def test_outlines_run_on_the_component_and_enclose_it(mask: Uint8) -> None:
    for region in regions_of(mask, mask):
        xs, ys = region.contour.T
        assert np.all(mask[ys, xs] == region.class_index)
        enclosed = np.zeros_like(mask)
        cv2.fillPoly(enclosed, [region.contour], 1)
        x, y, width, height = region.box
        assert enclosed.sum() == enclosed[y : y + height, x : x + width].sum() >= region.area
        assert (xs.min(), ys.min(), xs.max(), ys.max()) == (x, y, x + width - 1, y + height - 1)


def test_a_hole_counts_neither_as_area_nor_as_a_region() -> None:
    mask = np.ones((20, 20), np.uint8)
    mask[5:10, 5:10] = 0
    (region,) = regions_of(mask, np.full_like(mask, 255))
    assert (region.area, region.box, region.confidence) == (375, (0, 0, 20, 20), 1.0)
    assert len(contours_of(mask, 1)) == 2  # the overlay draws the hole's edge as well


def test_a_component_inside_the_hole_of_another_is_its_own_region() -> None:
    mask = np.ones((20, 20), np.uint8)
    mask[4:16, 4:16] = 0
    mask[8:12, 8:12] = 1
    assert [(region.area, region.box) for region in regions_of(mask, mask)] == [(256, (0, 0, 20, 20)), (16, (8, 8, 4, 4))]


def test_an_empty_mask_has_no_regions() -> None:
    assert regions_of(np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8)) == []


def test_confidence_is_that_of_the_component_alone() -> None:
    mask, confidence = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    mask[2:4, 2:4], confidence[2:4, 2:4] = 1, 255
    mask[6:8, 6:8], confidence[6:8, 6:8] = 1, 51
    assert sorted(region.confidence for region in regions_of(mask, confidence)) == [0.2, 1.0]


def test_where_class_is_one_inside_and_zero_outside() -> None:
    mask = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    assert where_class(mask, 2).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert where_class(mask, 2).dtype == np.uint8
