from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from qtseg_edge.training.augmentation import Augmentation, _jpeg

SIDE = 96
GREY = torch.full((3, 1, 1), 0.35)
RED = torch.tensor([0.95, 0.25, 0.25]).reshape(3, 1, 1)
BLUE = torch.tensor([0.25, 0.25, 0.95]).reshape(3, 1, 1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def lesions(count: int, radius: float = 0.22, centre: tuple[float, float] = (0.4, 0.55)) -> tuple[Tensor, Tensor]:
    """Images (N, 3, S, S) of a red ellipse on grey, and its masks (N, 1, S, S). Off centre, so that a flip is seen."""
    y, x = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
    mask = (((y - centre[0]) / 1.3) ** 2 + (x - centre[1]) ** 2 < radius**2).float()[None]
    image = GREY + (RED - GREY) * mask
    return image.repeat(count, 1, 1, 1), mask.repeat(count, 1, 1, 1)


def halves(count: int) -> tuple[Tensor, Tensor]:
    """Images of a red square of class 1 that touches a blue one of class 2, on grey."""
    mask = torch.zeros(1, SIDE, SIDE)
    mask[0, 24:72, 20:48], mask[0, 24:72, 48:76] = 1, 2
    image = GREY + (RED - GREY) * (mask == 1) + (BLUE - GREY) * (mask == 2)
    return image.repeat(count, 1, 1, 1), mask.repeat(count, 1, 1, 1)


def noise(count: int) -> tuple[Tensor, Tensor]:
    """Pixels that are all different, with masks of 0 to 2."""
    return torch.rand(count, 3, SIDE, SIDE), torch.randint(3, (count, 1, SIDE, SIDE)).float()


def red_area(image: Tensor) -> Tensor:
    """(3, H, W) -> bool (H, W): redder than half of the way to the reddest pixel."""
    redness = image[0] - image[1:].mean(dim=0)
    return redness > redness.max() / 2


def leftovers(image: Tensor) -> bool:
    """Whether grey background and coloured lesion are both in the image, by more than the seams of its padding."""
    shown = image.amax(dim=0) > 0.05
    colourfulness = image.amax(dim=0) - image.amin(dim=0)
    return bool((shown & (colourfulness < 0.15)).float().mean() > 0.2 and (colourfulness > 0.35).float().mean() > 0.005)


def geometry_only(strength: float = 1.0) -> Augmentation:
    """The full change of place without one of colour, so that colours tell where each pixel went."""
    changed = Augmentation(strength, endoscope=0.0, empty_share=0.0)
    changed.colour, changed.cutout, changed.lens = torch.nn.Sequential(), torch.nn.Identity(), 0.0
    return changed


# --- image and mask -----------------------------------------------------------------------------------------------------------------


def test_the_mask_follows_its_object_through_every_change_of_place() -> None:
    images, masks = lesions(96)
    changed, changed_masks = geometry_only()(images, masks)
    moved = 0
    for image, mask, before in zip(changed, changed_masks[:, 0] > 0, masks[:, 0] > 0, strict=True):
        seen = red_area(image)
        assert (seen & mask).sum() > 0.95 * (seen | mask).sum()
        moved += bool((mask & before).sum() < 0.8 * (mask | before).sum())
    assert moved > 50, "the images were hardly moved: this test could not fail"


def test_the_mask_lies_on_its_object_after_everything_at_once() -> None:
    """Noise, light and spots blur what is red: less must agree, on all images but a few."""
    images, masks = lesions(96)
    changed, changed_masks = Augmentation(1.0, endoscope=0.25, empty_share=0.0)(images, masks)
    agreed = []
    for image, mask in zip(changed, changed_masks[:, 0] > 0, strict=True):
        seen = red_area(image)
        agreed.append(float((seen & mask).sum() / (seen | mask).sum()))
    assert sorted(agreed)[10] > 0.8


def test_two_classes_follow_their_objects_and_no_other_appears_between_them() -> None:
    images, masks = halves(64)
    changed, changed_masks = geometry_only()(images, masks)
    assert set(changed_masks.unique().tolist()) == {0.0, 1.0, 2.0}
    for image, mask in zip(changed, changed_masks[:, 0], strict=True):
        red = (image[0] - image[2]) > 0.35
        blue = (image[2] - image[0]) > 0.35
        for index, seen in ((1, red), (2, blue)):
            assert (seen & (mask == index)).sum() > 0.93 * (seen | (mask == index)).sum()


def test_labels_stay_class_indices_where_classes_touch() -> None:
    """Halfway between class 3 and background lie 1 and 2: a warp of the indices themselves would invent them."""
    masks = halves(48)[1]
    masks[masks > 0] = 3
    _, changed = Augmentation(1.0, endoscope=1.0, empty_share=0.0)(halves(48)[0], masks)
    assert set(changed.unique().tolist()) == {0.0, 3.0}


def test_shapes_types_and_ranges_are_kept() -> None:
    images, masks = lesions(64)
    changed, changed_masks = Augmentation(2.0, endoscope=1.0, empty_share=0.3)(images, masks)
    assert changed.shape == images.shape and changed_masks.shape == masks.shape
    assert changed.dtype == changed_masks.dtype == torch.float32
    assert torch.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 1
    assert set(changed_masks.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_images_stay_in_range(level: float) -> None:
    changed, changed_masks = Augmentation(1.0, 1.0, 0.0)(torch.full((16, 3, 64, 64), level), torch.zeros(16, 1, 64, 64))
    assert torch.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 1
    assert not changed_masks.any()


def test_the_originals_are_left_alone() -> None:
    images, masks = lesions(16)
    kept, kept_masks = images.clone(), masks.clone()
    Augmentation(1.0, 1.0, 1.0)(images, masks)
    assert torch.equal(images, kept) and torch.equal(masks, kept_masks)


# --- chance -------------------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_images_and_another_gives_others() -> None:
    images, masks = lesions(8)
    augmentation = Augmentation(1.0, endoscope=0.5, empty_share=0.5)
    outputs = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        outputs.append(augmentation(images, masks))
    assert torch.equal(outputs[0][0], outputs[1][0]) and torch.equal(outputs[0][1], outputs[1][1])
    assert not torch.equal(outputs[0][0], outputs[2][0])


def test_nothing_is_drawn_from_another_generator() -> None:
    """A run goes on with the seed of torch's generator alone: Python's and NumPy's must not matter, nor what was drawn before."""
    images, masks = lesions(8)
    outputs = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(5)
        outputs.append(Augmentation(1.0, 1.0, 0.5)(images, masks)[0])
    assert torch.equal(outputs[0], outputs[1])


# --- strength -----------------------------------------------------------------------------------------------------------------------


def test_strength_zero_only_flips() -> None:
    images, masks = noise(16)
    changed, changed_masks = Augmentation(0.0, endoscope=0.0, empty_share=0.0)(images, masks)
    kinds = set()
    for image, mask, before, before_mask in zip(changed, changed_masks, images, masks, strict=True):
        flips = [dims for dims in ((), (1,), (2,), (1, 2)) if torch.equal(image, before.flip(dims))]
        assert len(flips) == 1
        assert torch.equal(mask, before_mask.flip(flips[0]))
        kinds.add(flips[0])
    assert len(kinds) == 4


def test_a_larger_strength_moves_and_colours_more() -> None:
    images, masks = lesions(64)
    moved, coloured = [], []
    for strength in (0.25, 1.0, 2.0):
        torch.manual_seed(1)
        changed, changed_masks = Augmentation(strength, endoscope=0.0, empty_share=0.0)(images, masks)
        area = changed_masks.flatten(1).sum(dim=1)
        moved.append(float(area.std() / area.mean()))
        coloured.append(float((changed.mean(dim=(2, 3)) - images.mean(dim=(2, 3))).abs().mean()))
    assert moved == sorted(moved) and coloured == sorted(coloured)
    assert moved[2] > 2 * moved[0] and coloured[2] > 2 * coloured[0]


def test_endoscope_borders_hide_labels_in_half_of_the_images_at_most() -> None:
    """endoscope 1 asks for a border in every second image: only those lose labels at the corners."""
    images, masks = torch.full((128, 3, 64, 64), 0.7), torch.ones(128, 1, 64, 64)
    _, without = Augmentation(0.0, endoscope=0.0, empty_share=0.0)(images, masks)
    _, with_borders = Augmentation(0.0, endoscope=1.0, empty_share=0.0)(images, masks)
    assert without.all()
    cut = (~with_borders.bool()).flatten(1).any(dim=1).float().mean()
    assert 0.35 < cut < 0.65


def test_jpeg_and_its_neighbours_change_little() -> None:
    """Sharpening, noise and JPEG act on every image here: its content must survive them."""
    images, masks = lesions(32)
    augmentation = Augmentation(0.0, endoscope=0.0, empty_share=0.0)
    augmentation.lens = 1.0
    changed, changed_masks = augmentation(images, masks)
    unflipped = torch.where(changed_masks.bool(), RED, GREY)
    difference = (changed - unflipped).abs().mean(dim=(1, 2, 3))
    assert (difference > 0.001).all() and (difference < 0.08).all()


def test_an_image_that_was_a_jpeg_has_its_colours_in_their_order() -> None:
    """The only change that leaves torch: its channels must come back in their order."""
    image = lesions(1)[0]
    changed = _jpeg(image)
    assert not torch.equal(changed, image)
    assert (changed - image).abs().mean() < 0.03


# --- images without a lesion --------------------------------------------------------------------------------------------------------


def test_an_emptied_image_shows_no_lesion() -> None:
    images, masks = lesions(64, radius=0.12, centre=(0.3, 0.3))
    changed, changed_masks = Augmentation(1.0, 0.25, 1.0)(images, masks)
    assert not changed_masks.any()
    assert leftovers(images[0])
    assert not any(leftovers(image) for image in changed)


def test_an_image_of_two_classes_is_emptied_of_both() -> None:
    images, masks = halves(32)
    images, masks = images.roll((-20, -16), dims=(2, 3)), masks.roll((-20, -16), dims=(2, 3))  # room for a square beside them
    changed, changed_masks = Augmentation(0.0, 0.0, 1.0)(images, masks)
    assert not changed_masks.any()
    assert leftovers(images[0])
    assert not any(leftovers(image) for image in changed)


def test_a_lesion_too_large_to_leave_out_keeps_its_mask() -> None:
    images, masks = lesions(32, radius=0.6, centre=(0.5, 0.5))
    changed, changed_masks = Augmentation(1.0, 0.25, 1.0)(images, masks)
    kept = changed_masks.flatten(1).any(dim=1)
    assert 0.5 < kept.float().mean() < 1.0, "all but the images turned into a lost signal"
    for image in changed[~kept]:
        assert not leftovers(image)


def test_images_that_are_empty_already_stay_so() -> None:
    changed, changed_masks = Augmentation(1.0, 0.25, 1.0)(GREY.expand(16, 3, SIDE, SIDE), torch.zeros(16, 1, SIDE, SIDE))
    assert not changed_masks.any()
    assert not any(leftovers(image) for image in changed)


def test_about_the_asked_share_is_emptied() -> None:
    images, masks = lesions(128, radius=0.15)
    _, changed_masks = Augmentation(1.0, 0.0, 0.25)(images, masks)
    emptied = (~changed_masks.flatten(1).any(dim=1)).float().mean()
    assert 0.15 < emptied < 0.35
    _, changed_masks = Augmentation(1.0, 0.0, 0.0)(images[:32], masks[:32])
    assert changed_masks.flatten(1).any(dim=1).all()
