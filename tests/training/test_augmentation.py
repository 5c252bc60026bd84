from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from qtseg_edge.training.augmentation import Augmentation

SIDE = 96
GREY = torch.full((3, 1, 1), 0.35)
RED = torch.tensor([0.95, 0.25, 0.25]).reshape(3, 1, 1)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    state = random.getstate()
    torch.manual_seed(0)
    random.seed(0)
    yield
    random.setstate(state)


def lesions(count: int, radius: float = 0.22, centre: tuple[float, float] = (0.4, 0.55)) -> tuple[Tensor, Tensor]:
    """Images (N, 3, S, S) of a red ellipse on grey, and its masks (N, 1, S, S). Off centre, so that a flip is seen."""
    y, x = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
    mask = (((y - centre[0]) / 1.3) ** 2 + (x - centre[1]) ** 2 < radius**2).float()[None]
    image = GREY + (RED - GREY) * mask
    return image.repeat(count, 1, 1, 1), mask.repeat(count, 1, 1, 1)


def red_area(image: Tensor) -> Tensor:
    """(3, H, W) -> bool (H, W): redder than half of the way to the reddest pixel."""
    redness = image[0] - image[1:].mean(dim=0)
    return redness > redness.max() / 2


def leftovers(image: Tensor) -> bool:
    """Whether grey background and red lesion are both in the image, by more than the seams of its padding."""
    redness = image[0] - image[1:].mean(dim=0)
    shown = image.amax(dim=0) > 0.05
    return bool((shown & (redness.abs() < 0.1)).float().mean() > 0.2 and (redness > 0.3).float().mean() > 0.005)


def test_mask_follows_its_object_through_every_change() -> None:
    images, masks = lesions(96)
    changed, changed_masks = Augmentation(empty_share=0.0)(images, masks)
    moved = 0
    for image, mask, before in zip(changed, changed_masks[:, 0] > 0, masks[:, 0] > 0, strict=True):
        seen = red_area(image)
        assert (seen & mask).sum() > 0.9 * (seen | mask).sum()
        moved += bool((mask & before).sum() < 0.8 * (mask | before).sum())
    assert moved > 30, "the images were hardly moved: this test could not fail"


def test_shapes_types_and_ranges_are_kept() -> None:
    images, masks = lesions(64)
    changed, changed_masks = Augmentation(empty_share=0.3)(images, masks)
    assert changed.shape == images.shape and changed_masks.shape == masks.shape
    assert changed.dtype == changed_masks.dtype == torch.float32
    assert torch.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 1
    assert set(changed_masks.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_images_stay_in_range(level: float) -> None:
    changed, changed_masks = Augmentation(empty_share=0.0)(torch.full((16, 3, 64, 64), level), torch.zeros(16, 1, 64, 64))
    assert torch.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 1
    assert not changed_masks.any()


def test_the_originals_are_left_alone() -> None:
    images, masks = lesions(16)
    kept, kept_masks = images.clone(), masks.clone()
    Augmentation(empty_share=1.0)(images, masks)
    assert torch.equal(images, kept) and torch.equal(masks, kept_masks)


def test_the_same_seed_gives_the_same_images() -> None:
    images, masks = lesions(8)
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        random.seed(3)
        outputs.append(Augmentation(empty_share=0.5)(images, masks))
    assert torch.equal(outputs[0][0], outputs[1][0]) and torch.equal(outputs[0][1], outputs[1][1])


def test_an_emptied_image_shows_no_lesion() -> None:
    images, masks = lesions(64, radius=0.12, centre=(0.3, 0.3))
    changed, changed_masks = Augmentation(empty_share=1.0)(images, masks)
    assert not changed_masks.any()
    assert leftovers(images[0])
    assert not any(leftovers(image) for image in changed)


def test_a_lesion_too_large_to_leave_out_keeps_its_mask() -> None:
    images, masks = lesions(32, radius=0.6, centre=(0.5, 0.5))
    changed, changed_masks = Augmentation(empty_share=1.0)(images, masks)
    kept = changed_masks.flatten(1).any(dim=1)
    assert 0.5 < kept.float().mean() < 1.0, "all but the images turned into a lost signal"
    for image in changed[~kept]:
        assert not leftovers(image)


def test_images_that_are_empty_already_stay_so() -> None:
    changed, changed_masks = Augmentation(empty_share=1.0)(GREY.expand(16, 3, SIDE, SIDE), torch.zeros(16, 1, SIDE, SIDE))
    assert not changed_masks.any()
    assert not any(leftovers(image) for image in changed)


def test_about_the_asked_share_is_emptied() -> None:
    images, masks = lesions(128, radius=0.15)
    _, changed_masks = Augmentation(empty_share=0.25)(images, masks)
    emptied = (~changed_masks.flatten(1).any(dim=1)).float().mean()
    assert 0.15 < emptied < 0.35
    _, changed_masks = Augmentation(empty_share=0.0)(images[:32], masks[:32])
    assert changed_masks.flatten(1).any(dim=1).all()
