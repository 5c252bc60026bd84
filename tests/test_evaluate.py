from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from qtseg_edge.bootstrap import estimate
from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.evaluate import Evaluation, Presence, Size, evaluate
from qtseg_edge.metrics import METRICS, Metric
from qtseg_edge.runtime import FakeBackend, Segmenter
from qtseg_edge.runtime.fake import FAKE_CARD
from qtseg_edge.spec import ModelCard, ModelSpec
from tests.labelled import FOUR, SIZE_HW, Answers, Levels, as_mask, box, fake, four_class_split, marked_split, red_where, split_of

METRIC = {metric.name: metric for metric in METRICS}
NOTHING, SQUARE, SHIFTED = box(0, 0, 0, 0), box(10, 10, 30, 30), box(10, 20, 30, 40)  # 400 pixels each, 200 in common


def mean(evaluation: Evaluation, name: str, size: Size = "network", row: int = 0) -> float:
    return estimate(evaluation.values(size, row, METRIC[name])).mean


def one_image(folder: Path, seen: np.ndarray, label: np.ndarray) -> Path:
    return marked_split(folder, {"a": (seen, label)})


@pytest.fixture
def five(tmp_path: Path) -> Path:
    pairs = {
        "exact": (SQUARE, SQUARE),
        "half": (SHIFTED, SQUARE),
        "missed": (NOTHING, SQUARE),
        "invented": (SQUARE, NOTHING),
        "rightly empty": (NOTHING, NOTHING),
    }
    return marked_split(tmp_path / "five", pairs)


@pytest.mark.parametrize("size", ["network", "original"])
def test_scores_are_those_of_hand_counted_pixels(five: Path, size: Size) -> None:
    evaluation = evaluate(fake(), five)
    found = {image.name: (s.dice, s.iou, s.mae, s.sensitivity, s.specificity) for image in evaluation.images for s in image.at(size)}
    others, wrong = 6144 - 400, 400 / 6144
    nan = float("nan")
    expected = {
        "exact.png": (1, 1, 0, 1, 1),
        "half.png": (0.5, 1 / 3, wrong, 0.5, 1 - 200 / others),
        "invented.png": (0, 0, wrong, nan, 1 - wrong),
        "missed.png": (0, 0, wrong, 0, 1),
        "rightly empty.png": (1, 1, 0, nan, 1),
    }
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, nan_ok=True), name
    assert mean(evaluation, "dice", size) == pytest.approx((1 + 0.5 + 0 + 0 + 1) / 5)
    assert mean(evaluation, "mae", size) == pytest.approx(3 * wrong / 5)
    assert mean(evaluation, "sensitivity", size) == pytest.approx((1 + 0.5 + 0) / 3)


@pytest.mark.parametrize("size", ["network", "original"])
def test_missed_and_invented_images_are_counted_beside_the_distance_they_have_none_of(five: Path, size: Size) -> None:
    evaluation = evaluate(fake(), five)
    distances = estimate(evaluation.values(size, 0, METRIC["hd95"]))
    assert distances.n == 2
    assert distances.mean == pytest.approx((0 + 10) / 2)
    assert evaluation.presence(size, 0) == Presence(labelled=3, missed=1, unlabelled=2, invented=1)


def test_the_mean_is_over_images_not_over_pixels(tmp_path: Path) -> None:
    """A small lesion counts as much as a large one, as in the published scores."""
    large, small = box(0, 0, 60, 90), box(0, 0, 2, 2)
    assert mean(evaluate(fake(), marked_split(tmp_path / "a", {"large": (large, large), "small": (NOTHING, small)})), "dice") == 0.5


def test_the_worst_cases_come_first_and_hold_what_was_predicted(tmp_path: Path) -> None:
    shifts = (4, 16, 0, 10, 12, 2, 6, 14, 8)
    pairs = {f"by {shift:02}": (box(10, 10 + shift, 30, 30 + shift), SQUARE) for shift in shifts}
    evaluation = evaluate(fake(), marked_split(tmp_path / "a", pairs))
    assert [case.pair.image.name for case in evaluation.worst] == [f"by {shift:02}.png" for shift in range(16, 0, -2)]
    assert np.array_equal(evaluation.worst[0].predicted > 0, box(10, 26, 30, 46))
    assert [case.scores.dice for case in evaluation.worst] == sorted(case.scores.dice for case in evaluation.worst)


def test_a_portrait_image_is_scored_at_both_sizes(tmp_path: Path) -> None:
    """128x96 goes into the left half of 64x96 at scale 1/2, so boxes of even sides are exact at both sizes."""
    marked = box(10, 4, 30, 24)  # at network size
    label = box(20, 8, 60, 40, (128, 96))  # 16 of 20 columns of it, at twice the size
    evaluation = evaluate(Answers(marked), one_image(tmp_path / "a", label, label))
    ((network,), (original,)) = evaluation.images[0].network, evaluation.images[0].original
    assert (network.labelled, network.predicted) == (20 * 16, 20 * 20)
    assert (original.labelled, original.predicted) == (40 * 32, 40 * 40)
    assert network.dice == original.dice == pytest.approx(2 * 320 / (320 + 400))
    assert network.mae == pytest.approx(80 / (64 * 96))
    assert original.mae == pytest.approx(320 / (128 * 96))  # the same error is a larger share where no padding is counted
    assert (network.hd95, original.hd95) == (pytest.approx(4), pytest.approx(8))


def test_the_padding_is_background_at_network_size_and_nothing_at_original_size(tmp_path: Path) -> None:
    inside, in_padding = box(10, 4, 30, 24), box(40, 60, 50, 80)
    label = box(20, 8, 60, 48, (128, 96))
    evaluation = evaluate(Answers(inside | in_padding), one_image(tmp_path / "a", label, label))
    ((network,), (original,)) = evaluation.images[0].network, evaluation.images[0].original
    assert network.predicted - network.labelled == 200
    assert network.specificity == pytest.approx(1 - 200 / (64 * 96 - 400))
    assert (original.dice, original.mae, original.hd95) == (1, 0, 0)


def test_original_size_is_what_the_runtime_draws(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rgb = cv2.blur(random.integers(0, 256, (150, 110, 3), dtype=np.uint8), (9, 9)) * 2
    label = box(20, 20, 90, 70, (150, 110))
    evaluation = evaluate(fake(), split_of(tmp_path / "a", {"a": (rgb, as_mask(label))}))
    mask = Segmenter(fake()).segment(rgb).mask
    assert mask.any()
    assert np.array_equal(evaluation.worst[0].predicted, mask)
    assert evaluation.images[0].original[0].predicted == np.count_nonzero(mask)


def test_the_cards_threshold_counts_at_original_size_only(tmp_path: Path) -> None:
    split = one_image(tmp_path / "a", SQUARE, SQUARE)
    evaluation = evaluate(Answers(SQUARE, confidence=160, threshold=0.8), split)
    assert (mean(evaluation, "dice"), mean(evaluation, "dice", "original")) == (1, 0)
    assert evaluation.threshold == 0.8


def test_an_image_of_one_colour_is_empty_at_original_size_only(tmp_path: Path) -> None:
    """The runtime does not ask the network about such frames; at network size the graph is scored as it is."""
    grey = np.full((*SIZE_HW, 3), 120, np.uint8)
    evaluation = evaluate(Answers(SQUARE), split_of(tmp_path / "a", {"a": (grey, as_mask(NOTHING))}))
    assert (mean(evaluation, "dice"), mean(evaluation, "dice", "original")) == (0, 1)


def test_every_image_is_inferred_once(tmp_path: Path) -> None:
    backend = Answers(SQUARE)
    evaluate(backend, marked_split(tmp_path / "a", {name: (SQUARE, SQUARE) for name in "abc"}))
    assert backend.calls == 3


@pytest.mark.parametrize("size", ["network", "original"])
def test_several_classes_are_scored_one_by_one_and_together(tmp_path: Path, size: Size) -> None:
    split, predicted, labelled = four_class_split(tmp_path / "a")
    evaluation = evaluate(Levels(), split)
    assert evaluation.rows == ("polyp", "tool", "water", "all classes")
    assert mean(evaluation, "mae", size, row=3) == pytest.approx(np.mean(predicted != labelled))
    assert estimate(evaluation.values(size, 2, METRIC["dice"])).n == 4
    assert evaluation.presence(size, 2) == Presence(labelled=3, missed=0, unlabelled=2, invented=1)


def test_the_worst_of_several_classes_are_classes_of_images(tmp_path: Path) -> None:
    split, _, _ = four_class_split(tmp_path / "a")
    worst = evaluate(Levels(), split).worst
    assert len(worst) == 8
    assert (worst[0].class_index, worst[0].pair.image.name, worst[0].scores.dice) == (3, "01.png", 0)  # invented there
    assert "00.png" not in [case.pair.image.name for case in worst if case.class_index == 3]  # no water in it, so no Dice


def test_labels_of_several_classes_must_be_indices(tmp_path: Path) -> None:
    with pytest.raises(QtsegError, match=r"a\.png: wanted class indices below 4, got 255"):
        evaluate(Levels(), one_image(tmp_path / "a", SQUARE, SQUARE))


def test_two_classes_of_the_same_name_are_both_reported(tmp_path: Path) -> None:
    card = replace(FOUR, classes=("background", "polyp", "polyp", "water"))
    split, _, _ = four_class_split(tmp_path / "a", images=2)
    assert evaluate(Levels(card), split).rows == ("polyp", "polyp", "water", "all classes")


def test_values_are_one_per_image_and_nan_where_undefined(five: Path) -> None:
    values = evaluate(fake(), five).values("network", 0, Metric("sensitivity", ""))
    assert values.tolist() == pytest.approx([1, 0.5, float("nan"), 0, float("nan")], nan_ok=True)


def test_every_image_is_announced(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    split = marked_split(tmp_path / "a", {name: (SQUARE, SQUARE) for name in "abc"})
    evaluate(fake(), split, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_dynamic_model_is_scored_as_one_of_batch_1(five: Path) -> None:
    dynamic, fixed = evaluate(fake(batch=None), five), evaluate(fake(batch=1), five)
    assert dynamic.values("network", 0, METRIC["dice"]).tolist() == fixed.values("network", 0, METRIC["dice"]).tolist()


def test_a_model_of_a_larger_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="wanted a model of batch 1 or dynamic, got 4; export it again with --batch 1"):
        evaluate(fake(batch=4), tmp_path)


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path: Path) -> None:
    split = split_of(tmp_path / "a", {"a": (red_where(box(0, 0, 9, 9)), as_mask(box(0, 0, 9, 9, (64, 90))))})
    with pytest.raises(QtsegError, match=r"a\.png: mask of 90x64 for an image of 96x64"):
        evaluate(fake(), split)


def test_an_image_without_a_mask_is_refused(tmp_path: Path) -> None:
    split = marked_split(tmp_path / "a", {"a": (SQUARE, SQUARE), "b": (SQUARE, SQUARE)})
    (split / "masks" / "b.png").unlink()
    with pytest.raises(UsageError, match=r"masks: no mask for 1 of 2 images, first b\.png"):
        evaluate(fake(), split)


def test_a_folder_that_is_no_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="images: no such folder"):
        evaluate(fake(), tmp_path)


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_a_file_that_does_not_decode_is_refused(tmp_path: Path, folder: str) -> None:
    split = one_image(tmp_path / "a", SQUARE, SQUARE)
    (split / folder / "a.png").write_bytes(b"no picture")
    with pytest.raises(QtsegError, match=rf"{folder}/a\.png: wanted an image, but it does not decode"):
        evaluate(fake(), split)


def test_a_16_bit_image_is_refused(tmp_path: Path) -> None:
    split = one_image(tmp_path / "a", SQUARE, SQUARE)
    cv2.imwrite(str(split / "images" / "a.png"), np.full((*SIZE_HW, 3), 3000, np.uint16))
    with pytest.raises(QtsegError, match="wanted 8 bits per channel, got uint16"):
        evaluate(fake(), split)


def test_what_the_backend_raises_comes_through(tmp_path: Path) -> None:
    split = marked_split(tmp_path / "a", {name: (SQUARE, SQUARE) for name in "ab"})
    with pytest.raises(QtsegError, match="failed at call 1"):
        evaluate(FakeBackend(ModelSpec(replace(FAKE_CARD, size_hw=SIZE_HW), SIZE_HW, 1), fail_at=1), split)


def test_the_class_of_a_two_class_model_is_its_only_row(tmp_path: Path) -> None:
    card = ModelCard("two", ("background", "vessel"), ((0, 0, 0), (0, 200, 120)), SIZE_HW, "scale")
    assert evaluate(FakeBackend(ModelSpec(card, SIZE_HW)), one_image(tmp_path / "a", SQUARE, SQUARE)).rows == ("vessel",)
