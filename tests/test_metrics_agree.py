"""The same masks scored by torchmetrics."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.functional import classification, mean_absolute_error, segmentation

from qtseg_edge.evaluate import SIZES, evaluate
from qtseg_edge.metrics import METRICS, image_scores
from qtseg_edge.surface_distance import surface_distances
from tests.labelled import Levels, four_class_split

Uint8 = NDArray[np.uint8]


def random_masks(classes: int, images: int = 12) -> tuple[Uint8, Uint8]:
    """Predictions and labels (N, 33, 47), every second pair in blobs, with classes missing from some of them."""
    random = np.random.default_rng(classes)
    masks = random.choice(classes, (2, images, 33, 47), p=[0.6, *[0.4 / (classes - 1)] * (classes - 1)]).astype(np.uint8)
    for of_one_kind in masks:
        for index in range(0, images, 2):
            of_one_kind[index] = cv2.medianBlur(of_one_kind[index], 7)
        of_one_kind[3][of_one_kind[3] == classes - 1] = 0
    masks[0][4][masks[0][4] == 1] = 0
    masks[1][5][masks[1][5] == 1] = 0
    masks[0][6] = masks[1][6] = 0
    return masks[0], masks[1]


@pytest.fixture(params=[2, 4])
def case(request: pytest.FixtureRequest) -> tuple[int, Uint8, Uint8]:
    return request.param, *random_masks(request.param)


def ours(case: tuple[int, Uint8, Uint8], name: str) -> NDArray[np.float64]:
    """(N, K - 1) of the classes above background."""
    classes, predicted, labelled = case
    scores = [image_scores(p, label, classes)[: classes - 1] for p, label in zip(predicted, labelled, strict=True)]
    return np.array([[getattr(of_class, name) for of_class in of_image] for of_image in scores])


def tensors(case: tuple[int, Uint8, Uint8]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(case[1]).long(), torch.from_numpy(case[2]).long()


def absent(case: tuple[int, Uint8, Uint8]) -> NDArray[np.bool_]:
    """(N, K - 1): neither mask has the class."""
    classes, predicted, labelled = case
    return np.stack([~((predicted == k) | (labelled == k)).any(axis=(1, 2)) for k in range(1, classes)], axis=1)


def test_dice_is_theirs_where_a_class_is_present(case: tuple[int, Uint8, Uint8]) -> None:
    theirs = segmentation.dice_score(*tensors(case), case[0], include_background=False, average="none", input_format="index").numpy()
    nowhere = absent(case)
    assert nowhere.any() and not nowhere.all()
    assert np.array_equal(np.isnan(theirs), nowhere)
    assert ours(case, "dice")[~nowhere] == pytest.approx(theirs[~nowhere], abs=1e-6)
    assert np.all(ours(case, "dice")[nowhere] == 1) if case[0] == 2 else np.isnan(ours(case, "dice")[nowhere]).all()


def test_dice_of_all_classes_is_their_macro_average() -> None:
    predicted, labelled = random_masks(4)
    together = [image_scores(p, label, 4)[-1].dice for p, label in zip(predicted, labelled, strict=True)]
    case = (4, predicted, labelled)
    theirs = segmentation.dice_score(*tensors(case), 4, include_background=False, average="macro", input_format="index").numpy()
    assert np.isnan(theirs).any()
    assert together == pytest.approx(theirs, abs=1e-6, nan_ok=True)


def test_iou_is_theirs_where_a_class_is_present(case: tuple[int, Uint8, Uint8]) -> None:
    theirs = segmentation.mean_iou(*tensors(case), case[0], include_background=False, per_class=True, input_format="index").numpy()
    assert ours(case, "iou")[~absent(case)] == pytest.approx(theirs[~absent(case)], abs=1e-6)


def test_accuracy_sensitivity_and_specificity_are_theirs(case: tuple[int, Uint8, Uint8]) -> None:
    functions = {
        "accuracy": classification.binary_accuracy,
        "sensitivity": classification.binary_recall,
        "specificity": classification.binary_specificity,
    }
    for name, function in functions.items():
        found = ours(case, name)
        for n, k in np.argwhere(~np.isnan(found)).tolist():
            predicted, labelled = (tensor[n] == k + 1 for tensor in tensors(case))
            assert found[n, k] == pytest.approx(float(function(predicted.int(), labelled.int())), abs=1e-6), name


def test_mae_is_theirs_of_binary_masks(case: tuple[int, Uint8, Uint8]) -> None:
    found = ours(case, "mae")
    for n, k in np.ndindex(found.shape):
        predicted, labelled = (tensor[n] == k + 1 for tensor in tensors(case))
        assert found[n, k] == pytest.approx(float(mean_absolute_error(predicted.float(), labelled.float())), abs=1e-6)


def test_accuracy_of_all_classes_is_their_micro_accuracy() -> None:
    predicted, labelled = random_masks(4)
    for p, label in zip(predicted, labelled, strict=True):
        theirs = classification.multiclass_accuracy(torch.from_numpy(p), torch.from_numpy(label).long(), 4, average="micro")
        together = image_scores(p, label, 4)[-1]
        assert together.accuracy == pytest.approx(float(theirs), abs=1e-6)
        assert together.mae == pytest.approx(1 - float(theirs), abs=1e-6)


def test_the_largest_surface_distance_is_their_hausdorff_distance(case: tuple[int, Uint8, Uint8]) -> None:
    """They have no percentile (test_surface_distance.py compares it with a slow count), and are wrong on images that are not square
    (torchmetrics issue 3300)."""
    classes, predicted, labelled = case
    compared = 0
    for n, k in np.ndindex(len(predicted), classes - 1):
        p, label = (masks[n, :33, :33] == k + 1 for masks in (predicted, labelled))
        distances = surface_distances(p, label)
        if distances is not None:
            one_hot = (torch.from_numpy(mask.astype(np.int64))[None, None] for mask in (p, label))
            theirs = segmentation.hausdorff_distance(*one_hot, 1, include_background=True)
            assert max(directed.max() for directed in distances) == pytest.approx(float(theirs), abs=1e-4)
            compared += 1
    assert compared > 5


def test_a_folder_of_images_is_scored_as_they_do(tmp_path: Path) -> None:
    split, predicted, labelled = four_class_split(tmp_path / "four")
    evaluation, of_all = evaluate(Levels(), split), (torch.from_numpy(predicted).long(), torch.from_numpy(labelled).long())
    each = segmentation.dice_score(*of_all, 4, include_background=False, average="none", input_format="index").numpy()
    together = segmentation.dice_score(*of_all, 4, include_background=False, average="macro", input_format="index").numpy()
    for size in SIZES:
        for row in range(3):
            assert evaluation.values(size, row, METRICS[0]) == pytest.approx(each[:, row], abs=1e-6, nan_ok=True)
        assert evaluation.values(size, 3, METRICS[0]) == pytest.approx(together, abs=1e-6)
