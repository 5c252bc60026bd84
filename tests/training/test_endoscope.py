from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from qtseg_edge.training.endoscope import hide_border, highlights, vignette

SIDE = 96


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def pictures(count: int = 16) -> Tensor:
    """Smooth colours between 0.2 and 0.8, brighter to the right."""
    coarse = 0.2 + 0.4 * torch.rand(count, 3, 6, 6)
    smooth = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    return smooth + torch.linspace(0, 0.2, SIDE)


@pytest.mark.parametrize("change", [vignette, highlights])
def test_values_stay_in_range_and_every_image_gets_its_own_draw(change: Callable[[Tensor], Tensor]) -> None:
    images = pictures(1).expand(8, 3, SIDE, SIDE)
    changed = change(images)
    assert changed.shape == images.shape and changed.dtype == torch.float32
    assert torch.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 1
    assert all(not torch.equal(changed[0], other) for other in changed[1:])


def test_a_vignette_only_darkens_and_most_in_the_corners() -> None:
    images = pictures()
    ratio = vignette(images) / images
    assert ratio.max() <= 1 + 1e-6 and ratio.min() >= 0.2 - 1e-6
    corners = torch.stack([ratio[:, :, y, x] for y in (0, -1) for x in (0, -1)]).mean(dim=0)
    middle = ratio[:, :, 38:58, 38:58].mean(dim=(2, 3))
    assert (corners < middle - 0.1).all()


def test_a_vignette_keeps_the_colour_of_a_pixel() -> None:
    images = pictures()
    ratio = vignette(images) / images
    torch.testing.assert_close(ratio[:, 0], ratio[:, 2], rtol=1e-4, atol=1e-5)


def test_highlights_only_brighten_and_cover_little() -> None:
    images = pictures(32)
    changed = highlights(images)
    assert (changed >= images - 1e-6).all()
    covered = (changed > images + 0.01).any(dim=1).float().mean(dim=(1, 2))
    assert (covered > 0).all(), "every image has some"
    assert covered.max() < 0.025
    assert changed.flatten(1).max(dim=1).values.mean() > 0.8, "close to white"


def test_highlights_lie_mostly_where_the_image_is_bright() -> None:
    images = pictures(32)
    changed = (highlights(images) - images).sum(dim=1)
    assert changed[..., SIDE // 2 :].sum() > 1.3 * changed[..., : SIDE // 2].sum()


def test_a_border_is_black_where_labels_become_background_and_nothing_else_changes() -> None:
    images, labels = pictures(), torch.full((16, 1, SIDE, SIDE), 2.0)
    changed, changed_labels = hide_border(images, labels)
    inside = changed_labels > 0
    assert torch.equal(changed, images * inside)
    assert set(changed_labels.unique().tolist()) == {0.0, 2.0}
    hidden = 1 - inside.float().mean(dim=(1, 2, 3))
    assert hidden.min() > 0.01 and hidden.max() < 0.6


def test_the_field_of_a_border_is_one_round_area_around_the_middle() -> None:
    _, inside = hide_border(pictures(), torch.ones(16, 1, SIDE, SIDE))
    assert inside[:, 0, SIDE // 2, SIDE // 2].all()
    for axis in (2, 3):
        edges = (inside.diff(dim=axis) != 0).sum(dim=axis)
        assert edges.max() <= 2, "along a line it begins and ends once"


def test_images_and_labels_that_were_given_are_left_alone() -> None:
    images, labels = pictures(), torch.ones(16, 1, SIDE, SIDE)
    kept = images.clone()
    vignette(images), highlights(images), hide_border(images, labels)
    assert torch.equal(images, kept) and labels.all()


@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize("change", [vignette, highlights])
def test_black_and_white_images_stay_in_range(change: Callable[[Tensor], Tensor], level: float) -> None:
    changed = change(torch.full((4, 3, SIDE, SIDE), level))
    assert torch.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 1
