from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError
from qtseg_edge.export.gate import GateImage, compare, gate_images, labelled_gate_images
from qtseg_edge.export.low_precision import one_image
from qtseg_edge.runtime import FakeBackend, Masks
from qtseg_edge.runtime.backend import Backend
from qtseg_edge.runtime.fake import FAKE_CARD
from qtseg_edge.spec import ModelSpec

Uint8 = NDArray[np.uint8]
SIDE = 256


class Trimmed(FakeBackend):
    """As FakeBackend, but blind to the first `rows` rows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.name, self._rows = "trimmed", rows

    def _infer(self, image: Uint8) -> Masks:
        mask, confidence = super()._infer(image)
        mask[:, : self._rows] = 0
        return Masks(mask, confidence)


def half_red(name: str = "a.png", label: Uint8 | None = None, red_rows: int = 128) -> GateImage:
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    frame[:red_rows, :, 0] = 250
    frame[::2, :, 1] = 40  # texture: a flat frame is not asked about
    return GateImage(name, frame, label)


def label(rows: int) -> Uint8:
    drawn = np.zeros((SIDE, SIDE), np.uint8)
    drawn[:rows] = 1
    return drawn


def test_equal_masks_pass_with_an_iou_of_one() -> None:
    result = compare(FakeBackend(), FakeBackend(), [half_red()], "calibration")
    assert (result.mask_iou, result.passed, result.measure, result.limit) == (1.0, True, "mask_iou", 0.93)
    assert math.isnan(result.dice)
    assert result.document()["dice"] is None


def test_masks_that_shrink_fail_and_the_worst_image_comes_first() -> None:
    images = [half_red("whole.png"), half_red("small.png", red_rows=32), half_red("none.png", red_rows=0)]
    result = compare(FakeBackend(), Trimmed(16), images, "calibration")
    assert [image.name for image in result.worst] == ["small.png", "whole.png", "none.png"]
    assert [image.mask_iou for image in result.worst] == [0.5, 0.875, 1.0]
    assert not result.passed
    assert result.verdict() == "mask IoU with FP32 0.792 on 3 images of calibration, wanted at least 0.93"
    assert compare(FakeBackend(), Trimmed(16), images, "calibration", limit=0.79).passed


def test_with_labels_the_loss_of_dice_counts() -> None:
    images = [half_red("a.png", label(128)), half_red("b.png", label(100))]
    result = compare(FakeBackend(), Trimmed(1), images, "val")
    exact, larger = 1.0, 2 * 100 / 228
    assert result.measure == "dice" and result.limit == 0.5
    assert result.reference_dice == pytest.approx((exact + larger) / 2)
    assert result.dice == pytest.approx((2 * 127 / 255 + 2 * 99 / 227) / 2)
    assert result.points_lost == pytest.approx(100 * (result.reference_dice - result.dice)) and result.points_lost > 0
    assert result.passed
    assert not compare(FakeBackend(), Trimmed(4), images, "val").passed


def test_a_model_that_got_better_passes() -> None:
    assert compare(Trimmed(30), FakeBackend(), [half_red(label=label(128))], "val", limit=0.0).passed


def test_the_document_is_plain_json() -> None:
    result = compare(FakeBackend(), Trimmed(4), [half_red(label=label(128))], "val")
    document = json.loads(json.dumps(result.document()))
    assert document["judge"] == "trimmed" and document["images"] == 1
    assert document["worst"][0]["name"] == "a.png" and document["dice"] < document["reference_dice"] == 1.0


def test_no_image_to_compare_on_is_an_error() -> None:
    with pytest.raises(QtsegError, match="val: no image to compare"):
        compare(FakeBackend(), FakeBackend(), [], "val")


def test_images_come_from_a_split_or_from_files(tmp_path: Path) -> None:
    for folder, values in (("images", half_red().frame), ("masks", label(128) * 255)):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), values[..., ::-1] if values.ndim == 3 else values)
    (labelled,) = labelled_gate_images(tmp_path, 2)
    (plain,) = gate_images([tmp_path / "images" / "a.png"])
    assert np.array_equal(labelled.frame, half_red().frame) and np.array_equal(plain.frame, labelled.frame)
    assert labelled.label is not None and np.array_equal(labelled.label, label(128))
    assert plain.label is None


def test_a_model_of_a_fixed_batch_is_asked_one_image_at_a_time() -> None:
    backend: Backend = FakeBackend(ModelSpec(FAKE_CARD, (SIDE, SIDE), 4))
    result = compare(one_image(backend), FakeBackend(), [half_red()], "calibration")
    assert result.mask_iou == 1.0
    assert one_image(result_of := FakeBackend()) is result_of
