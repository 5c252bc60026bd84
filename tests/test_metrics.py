from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qtseg_edge.metrics import AUTHORS_METRICS, METRICS, Overlap, Scores, Uint8, agreement, foreground_overlap, image_scores

masks = arrays(np.uint8, (4, 6), elements=st.integers(0, 3))
EMPTY, FULL = np.zeros((4, 6), np.uint8), np.ones((4, 6), np.uint8)


def some(*pixels: int, value: int = 1) -> Uint8:
    """A mask with these of its 24 pixels set."""
    mask = EMPTY.copy()
    mask.flat[list(pixels)] = value
    return mask


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


@given(predicted=masks, labelled=masks)
def test_every_class_is_scored_from_its_own_four_counts(predicted: Uint8, labelled: Uint8) -> None:
    for index, scores in enumerate(image_scores(predicted, labelled, classes=4)[:3], 1):
        pairs = list(zip((predicted == index).flatten().tolist(), (labelled == index).flatten().tolist(), strict=True))
        tp, fp, fn, tn = (pairs.count(pair) for pair in ((True, True), (True, False), (False, True), (False, False)))
        nan = float("nan")
        expected = {
            "dice": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else nan,
            "iou": tp / (tp + fp + fn) if tp + fp + fn else nan,
            "mae": (fp + fn) / 24,
            "accuracy": (tp + tn) / 24,
            "sensitivity": tp / (tp + fn) if tp + fn else nan,
            "specificity": tn / (tn + fp) if tn + fp else nan,
            "authors_dice": 2 * max(tp, 1) / (2 * max(tp, 1) + fp + fn) if tp + fp + fn else nan,
            "authors_iou": max(tp, 1) / (max(tp, 1) + fp + fn) if tp + fp + fn else nan,
            "labelled": tp + fn,
            "predicted": tp + fp,
        }
        found = asdict(scores)
        assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_two_empty_masks_agree_in_full() -> None:
    overlap = foreground_overlap(EMPTY, EMPTY)
    assert (overlap.dice, overlap.iou, agreement(EMPTY, EMPTY)) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(("predicted", "labelled"), [(0, 1), (1, 0)])
def test_one_empty_mask_scores_zero(predicted: int, labelled: int) -> None:
    overlap = foreground_overlap(np.full((4, 4), predicted, np.uint8), np.full((4, 4), labelled, np.uint8))
    assert (overlap.dice, overlap.iou) == (0.0, 0.0)


def test_a_known_overlap() -> None:
    overlap = Overlap(intersection=3, predicted=5, labelled=4, pixels=20)
    assert overlap.dice == pytest.approx(6 / 9)
    assert overlap.iou == pytest.approx(3 / 6)
    assert overlap.mae == pytest.approx(3 / 20)
    assert overlap.sensitivity == pytest.approx(3 / 4)
    assert overlap.specificity == pytest.approx(14 / 16)


def test_foreground_counts_every_class_but_agreement_tells_them_apart() -> None:
    ones, twos = np.ones((4, 4), np.uint8), np.full((4, 4), 2, np.uint8)
    assert foreground_overlap(ones, twos).dice == 1.0
    assert agreement(ones, twos) == 0.0


def test_counts_of_large_masks_do_not_wrap() -> None:
    full = np.full((2000, 2000), 255, np.uint8)
    assert foreground_overlap(full, full) == Overlap(4_000_000, 4_000_000, 4_000_000, 4_000_000)


def scores_of(predicted: Uint8, labelled: Uint8) -> Scores:
    (scores,) = image_scores(predicted, labelled, classes=2)
    return scores


def test_a_rightly_empty_image_of_two_classes_has_full_overlap_and_no_distance() -> None:
    scores = scores_of(EMPTY, EMPTY)
    assert (scores.dice, scores.iou, scores.mae, scores.accuracy, scores.specificity) == (1, 1, 0, 1, 1)
    assert (scores.authors_dice, scores.authors_iou) == (1, 1)
    assert np.isnan([scores.sensitivity, scores.hd95]).all()


@pytest.mark.parametrize(("predicted", "labelled"), [(EMPTY, some(0, 1)), (some(0, 1), EMPTY)])
def test_a_missed_and_an_invented_class_score_nothing_and_have_no_distance(predicted: Uint8, labelled: Uint8) -> None:
    scores = scores_of(predicted, labelled)
    assert (scores.dice, scores.iou) == (0, 0)
    assert np.isnan(scores.hd95)


def test_a_label_over_the_whole_image_has_no_specificity() -> None:
    scores = scores_of(FULL, FULL)
    assert np.isnan(scores.specificity)
    assert (scores.sensitivity, scores.hd95) == (1, 0)


def test_the_authors_rule_changes_images_without_a_true_positive_only() -> None:
    hit, miss = scores_of(some(0, 1), some(1, 2)), scores_of(some(0, 1), some(5, 6, 7))
    assert (hit.authors_dice, hit.authors_iou) == (hit.dice, hit.iou)
    assert (miss.dice, miss.iou) == (0, 0)
    assert (miss.authors_dice, miss.authors_iou) == (pytest.approx(2 / 7), pytest.approx(1 / 6))  # TP 1, FP 2, FN 3


def test_a_class_that_an_image_of_several_lacks_is_left_out_of_its_mean() -> None:
    predicted, labelled = some(0, 1), some(1, 2)
    first, second, third, together = image_scores(predicted, labelled, classes=4)
    assert first.dice == pytest.approx(0.5)
    assert np.isnan([second.dice, second.iou, second.authors_dice, third.dice, third.hd95]).all()
    assert (together.dice, together.hd95) == (first.dice, first.hd95)
    assert together.specificity == pytest.approx((first.specificity + 1 + 1) / 3)


def test_a_pixel_of_the_wrong_class_is_one_wrong_pixel_for_all_classes_together() -> None:
    predicted, labelled = some(0, value=1), some(0, value=2)
    first, second, together = image_scores(predicted, labelled, classes=3)
    assert (first.mae, second.mae) == (pytest.approx(1 / 24), pytest.approx(1 / 24))
    assert together.mae == pytest.approx(1 / 24)
    assert together.accuracy == pytest.approx(23 / 24)
    assert (together.labelled, together.predicted) == (1, 1)


def test_an_image_without_any_of_several_classes_has_no_overlap_score() -> None:
    together = image_scores(EMPTY, EMPTY, classes=3)[-1]
    assert np.isnan([together.dice, together.iou, together.sensitivity, together.hd95]).all()
    assert (together.mae, together.specificity) == (0, 1)


def test_masks_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"wanted masks of one size, got \(4, 6\) and \(1, 6\)"):
        image_scores(EMPTY, EMPTY[:1], classes=2)


def test_every_metric_is_a_score() -> None:
    fields = set(Scores.__dataclass_fields__)
    assert {metric.name for metric in METRICS + AUTHORS_METRICS} == fields - {"labelled", "predicted"}
    assert [metric.name for metric in METRICS if not metric.higher_is_better] == ["mae", "hd95"]
