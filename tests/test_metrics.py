from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qtseg_edge.metrics import Overlap, Uint8, agreement, foreground_overlap

masks = arrays(np.uint8, (4, 6), elements=st.integers(0, 3))


@given(predicted=masks, labelled=masks)
def test_scores_equal_counting_pixel_by_pixel(predicted: Uint8, labelled: Uint8) -> None:
    both = either = sizes = same = 0
    for p, l in zip(predicted.flatten().tolist(), labelled.flatten().tolist(), strict=True):  # noqa: E741
        both += p > 0 and l > 0
        either += p > 0 or l > 0
        sizes += (p > 0) + (l > 0)
        same += p == l
    overlap = foreground_overlap(predicted, labelled)
    assert overlap.dice == pytest.approx(2 * both / sizes if sizes else 1.0)
    assert overlap.iou == pytest.approx(both / either if either else 1.0)
    assert overlap.iou <= overlap.dice <= 1
    assert agreement(predicted, labelled) == pytest.approx(same / 24)


def test_two_empty_masks_agree_in_full() -> None:
    empty = np.zeros((4, 4), np.uint8)
    overlap = foreground_overlap(empty, empty)
    assert (overlap.dice, overlap.iou, agreement(empty, empty)) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("predicted", "labelled"), [(0, 1), (1, 0)])
def test_one_empty_mask_scores_zero(predicted: int, labelled: int) -> None:
    overlap = foreground_overlap(np.full((4, 4), predicted, np.uint8), np.full((4, 4), labelled, np.uint8))
    assert (overlap.dice, overlap.iou) == (0.0, 0.0)


def test_a_known_overlap() -> None:
    assert Overlap(intersection=3, predicted=5, labelled=4).dice == pytest.approx(6 / 9)
    assert Overlap(intersection=3, predicted=5, labelled=4).iou == pytest.approx(3 / 6)


def test_foreground_counts_every_class_but_agreement_tells_them_apart() -> None:
    ones, twos = np.ones((4, 4), np.uint8), np.full((4, 4), 2, np.uint8)
    assert foreground_overlap(ones, twos).dice == 1.0
    assert agreement(ones, twos) == 0.0


def test_counts_of_large_masks_do_not_wrap() -> None:
    full = np.full((2000, 2000), 255, np.uint8)
    assert foreground_overlap(full, full) == Overlap(4_000_000, 4_000_000, 4_000_000)
