from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qtseg_edge.training.images import Images
from qtseg_edge.training.losses import segmentation_loss
from qtseg_edge.training.scoring import score
from tests.training.discs import ALONE


class Painter(nn.Module):
    """Stands in for a network: class k where channel k - 1 is above a level and the brightest."""

    def __init__(self, classes: int = 2, level: float = 0.0) -> None:
        super().__init__()
        self.classes, self.level = classes, level

    def forward(self, image: Tensor) -> Tensor:
        background = torch.full_like(image[:, :1], self.level)
        return torch.cat([background, image[:, : self.classes - 1]], dim=1)


def painted(masks: Tensor) -> Images:
    """Images whose pixels are full of the channel of their class."""
    frames = torch.stack([255 * (masks == index).byte() for index in (1, 2, 3)], dim=-1)
    return Images(tuple(f"{index}.png" for index in range(len(masks))), frames, masks.byte())


def scored(images: Images, classes: int = 2, level: float = 0.0) -> dict[str, float]:
    return score(Painter(classes, level), images, classes, "scale", ALONE)  # type: ignore[arg-type]


def boxes(*sides: int, label: int = 1) -> Tensor:
    masks = torch.zeros(len(sides), 64, 64, dtype=torch.uint8)
    for mask, side in zip(masks, sides, strict=True):
        mask[:side, :side] = label
    return masks


@pytest.mark.parametrize(("level", "share"), [(0.0, 1.0), (2.0, 0.0)], ids=["finds it", "finds nothing"])
def test_score_of_a_network_that_is_known(level: float, share: float) -> None:
    found = scored(painted(boxes(8, 20, 30)), level=level)
    assert (found["val_dice"], found["val_iou"]) == (share, share)


def test_a_part_that_is_missed_by_hand() -> None:
    """Labelled 20x20 of which 10x20 are found."""
    images = painted(boxes(20))
    images.frames[0, :10] = 0
    found = scored(images)
    assert found["val_dice"] == pytest.approx(2 * 200 / (200 + 400))
    assert found["val_iou"] == pytest.approx(200 / 400)


def test_score_is_the_mean_over_images_and_not_over_pixels() -> None:
    images = painted(boxes(64, 2))
    images.frames[1] = 0  # all of the first found, nothing of the second
    found = scored(images)
    assert (found["val_dice"], found["val_iou"]) == (0.5, 0.5)


def test_an_empty_image_rightly_left_empty_counts_as_found() -> None:
    images = painted(boxes(0, 20))
    images.frames[1] = 0
    assert scored(images)["val_dice"] == 0.5
    images.frames[0, 0, 0, 0] = 255  # one pixel that is not there
    assert scored(images)["val_dice"] == 0.0


def test_of_several_classes_each_counts_the_same_in_an_image_that_shows_it() -> None:
    """The first image shows classes 1 and 2 and only 1 is found; the second shows 2 alone, found."""
    masks = boxes(40, 0)
    masks[0, 50:54, 50:54], masks[1, :8, :8] = 2, 2
    images = painted(masks)
    images.frames[0, ..., 1] = 0
    found = scored(images, classes=3)
    assert found["val_dice"] == pytest.approx((0.5 + 1.0) / 2)
    assert found["val_iou"] == pytest.approx((0.5 + 1.0) / 2)


def test_a_class_taken_for_another_is_wrong_for_both() -> None:
    images = painted(boxes(20))
    images.masks[0] *= 2
    assert scored(images, classes=3)["val_dice"] == 0.0


def test_images_of_several_classes_without_any_are_left_out() -> None:
    images = painted(boxes(0, 20))
    images.frames[1, :10] = 0
    assert scored(images, classes=3)["val_dice"] == pytest.approx(2 / 3)


def test_the_loss_is_the_mean_of_what_training_computes_per_image() -> None:
    masks = boxes(10, 20, 30, 40, 50)  # more than a forward pass takes
    images = painted(masks)
    images.frames[:, :5] = 90
    logits = Painter()(images.frames.permute(0, 3, 1, 2).float() * 2 / 255 - 1)
    alone = [segmentation_loss(logits[k : k + 1], masks[k : k + 1].long()).item() for k in range(5)]
    assert scored(images)["val_loss"] == pytest.approx(sum(alone) / 5, rel=1e-5)


def test_images_are_normalised_as_the_model_asks() -> None:
    """Of a dark image, only minmax makes the lesion bright."""
    images = painted(boxes(20))
    images.frames[:] = images.frames // 4
    assert scored(images)["val_dice"] == 0.0
    found = score(Painter(), images, 2, "minmax", ALONE)  # type: ignore[arg-type]
    assert found["val_dice"] == 1.0
