from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.evaluate import Evaluation, evaluate
from qtseg_edge.runtime import FakeBackend
from qtseg_edge.runtime.fake import FAKE_CARD
from qtseg_edge.spec import ModelCard, ModelSpec

Uint8 = NDArray[np.uint8]
SIZE_HW = (64, 96)


def fake(size_hw: tuple[int, int] = SIZE_HW, batch: int | None = 1) -> FakeBackend:
    """Marks what is red: the label of a picture is then known."""
    return FakeBackend(ModelSpec(replace(FAKE_CARD, size_hw=size_hw), size_hw, batch))


def red_where(marked: NDArray[np.bool_]) -> Uint8:
    rgb = np.full((*marked.shape, 3), 40, np.uint8)
    rgb[marked, 0] = 250
    return rgb


def split_of(folder: Path, pairs: dict[str, tuple[Uint8, Uint8]]) -> Path:
    """Each name with an RGB image and a mask, as lossless files."""
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for name, (rgb, mask) in pairs.items():
        cv2.imwrite(str(folder / "images" / f"{name}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
    return folder


def box(top: int, left: int, bottom: int, right: int, size_hw: tuple[int, int] = SIZE_HW) -> NDArray[np.bool_]:
    marked = np.zeros(size_hw, bool)
    marked[top:bottom, left:right] = True
    return marked


def as_mask(marked: NDArray[np.bool_]) -> Uint8:
    return marked.astype(np.uint8) * 255


def by_name(evaluation: Evaluation) -> dict[str, tuple[float, float, float]]:
    return {score.name: (score.dice, score.iou, score.mae) for score in evaluation.images}


def test_scores_are_those_of_hand_counted_pixels(tmp_path: Path) -> None:
    nothing, square, shifted = box(0, 0, 0, 0), box(10, 10, 30, 30), box(10, 20, 30, 40)  # 400 pixels each, 200 in common
    pairs = {
        "exact": (red_where(square), as_mask(square)),
        "half": (red_where(shifted), as_mask(square)),
        "missed": (red_where(nothing), as_mask(square)),
        "false alarm": (red_where(square), as_mask(nothing)),
        "rightly empty": (red_where(nothing), as_mask(nothing)),
    }
    evaluation = evaluate(fake(), split_of(tmp_path, pairs))
    assert by_name(evaluation) == {
        "exact.png": (1.0, 1.0, 0.0),
        "half.png": (0.5, pytest.approx(1 / 3), pytest.approx(400 / 6144)),
        "missed.png": (0.0, 0.0, pytest.approx(400 / 6144)),
        "false alarm.png": (0.0, 0.0, pytest.approx(400 / 6144)),
        "rightly empty.png": (1.0, 1.0, 0.0),
    }
    assert evaluation.dice == pytest.approx((1 + 0.5 + 0 + 0 + 1) / 5)
    assert evaluation.iou == pytest.approx((1 + 1 / 3 + 0 + 0 + 1) / 5)
    assert evaluation.mae == pytest.approx(3 * 400 / 6144 / 5)


def test_the_mean_is_over_images_not_over_pixels(tmp_path: Path) -> None:
    """A small lesion counts as much as a large one, as in the published scores."""
    large, small, nothing = box(0, 0, 60, 90), box(0, 0, 2, 2), box(0, 0, 0, 0)
    pairs = {"large": (red_where(large), as_mask(large)), "small": (red_where(nothing), as_mask(small))}
    assert evaluate(fake(), split_of(tmp_path, pairs)).dice == 0.5


def test_the_worst_images_come_first(tmp_path: Path) -> None:
    square = box(10, 10, 30, 30)
    pairs = {f"by {shift}": (red_where(box(10, 10 + shift, 30, 30 + shift)), as_mask(square)) for shift in (4, 16, 0, 10)}
    evaluation = evaluate(fake(), split_of(tmp_path, pairs))
    assert [score.name for score in evaluation.images] == ["by 16.png", "by 10.png", "by 4.png", "by 0.png"]


def test_images_of_any_size_are_scored_at_the_models_size(tmp_path: Path) -> None:
    marked = box(40, 60, 160, 240, (200, 500))
    evaluation = evaluate(fake(), split_of(tmp_path, {"a": (red_where(marked), as_mask(marked))}))
    assert evaluation.dice > 0.93  # the outline is 114 pixels long there, and nearest-neighbour labels lie half a pixel off
    assert evaluation.mae < 0.02


def test_the_padding_counts_as_background_on_both_sides(tmp_path: Path) -> None:
    whole = box(0, 0, 64, 48, (64, 48))  # fills the left half of the input
    evaluation = evaluate(fake(), split_of(tmp_path, {"a": (red_where(whole), as_mask(whole))}))
    assert (evaluation.dice, evaluation.mae) == (1.0, 0.0)


def test_every_image_is_announced(tmp_path: Path) -> None:
    square = box(10, 10, 30, 30)
    seen: list[tuple[int, int]] = []
    split = split_of(tmp_path, {name: (red_where(square), as_mask(square)) for name in "abc"})
    evaluate(fake(), split, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_dynamic_model_is_scored_as_one_of_batch_1(tmp_path: Path) -> None:
    square = box(10, 10, 30, 30)
    split = split_of(tmp_path, {"a": (red_where(square), as_mask(square))})
    assert evaluate(fake(batch=None), split) == evaluate(fake(batch=1), split)


def test_a_model_of_a_larger_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="wanted a model of batch 1 or dynamic, got 4"):
        evaluate(fake(batch=4), tmp_path)


def test_a_model_of_several_classes_is_refused(tmp_path: Path) -> None:
    card = ModelCard("three", ("background", "polyp", "tool"), ((0, 0, 0), (0, 200, 120), (230, 90, 60)), SIZE_HW, "scale")
    with pytest.raises(UsageError, match="wanted a two-class model, three has 3 classes"):
        evaluate(FakeBackend(ModelSpec(card, SIZE_HW)), tmp_path)


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path: Path) -> None:
    split = split_of(tmp_path, {"a": (red_where(box(0, 0, 9, 9)), as_mask(box(0, 0, 9, 9, (64, 90))))})
    with pytest.raises(QtsegError, match=r"a\.png: mask of 90x64 for an image of 96x64"):
        evaluate(fake(), split)


def test_an_image_without_a_mask_is_refused(tmp_path: Path) -> None:
    square = box(10, 10, 30, 30)
    split = split_of(tmp_path, {"a": (red_where(square), as_mask(square)), "b": (red_where(square), as_mask(square))})
    (split / "masks" / "b.png").unlink()
    with pytest.raises(UsageError, match=r"masks: no mask for 1 of 2 images, first b\.png"):
        evaluate(fake(), split)


def test_a_folder_that_is_no_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="images: no such folder"):
        evaluate(fake(), tmp_path)


def test_what_the_backend_raises_comes_through(tmp_path: Path) -> None:
    square = box(10, 10, 30, 30)
    split = split_of(tmp_path, {name: (red_where(square), as_mask(square)) for name in "ab"})
    with pytest.raises(QtsegError, match="failed at call 1"):
        evaluate(FakeBackend(ModelSpec(replace(FAKE_CARD, size_hw=SIZE_HW), SIZE_HW, 1), fail_at=1), split)
