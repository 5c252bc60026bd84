from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qtseg_edge.errors import QtsegError
from qtseg_edge.training.images import Images
from tests.training.discs import ALONE, write_image, write_pair, write_two_discs


def test_images_are_letterboxed_together_with_their_masks(data: Path) -> None:
    images = Images.read(data / "train", 96, 2)
    assert (len(images), images.side, images.names) == (4, 96, ("t0.png", "t1.png", "t2.png", "wide.png"))
    assert images.frames.shape == (4, 96, 96, 3) and images.frames.dtype == torch.uint8
    assert images.masks.shape == (4, 96, 96) and images.masks.dtype == torch.uint8
    assert set(images.masks.unique().tolist()) == {0, 1}
    wide, mask = images.frames[3], images.masks[3]  # 48x96
    assert not wide[48:].any() and wide[:48].any(dim=2).all()
    assert ((wide[..., 0] > 150) == (mask > 0)).float().mean() > 0.99, "red is the first channel and lies where the mask is"


def test_masks_of_several_classes_keep_their_indices(tmp_path: Path) -> None:
    write_two_discs(tmp_path, "a", (20, 20), (44, 44))
    images = Images.read(tmp_path, 32, 3)
    assert set(images.masks.unique().tolist()) == {0, 1, 2}
    assert images.masks[0, 10, 10] == 1 and images.masks[0, 22, 22] == 2


def test_indices_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    write_two_discs(tmp_path, "a", (20, 20), (44, 44))
    write_image(tmp_path / "masks" / "a.png", np.full((64, 64), 3))
    with pytest.raises(QtsegError, match="wanted class indices below 3, got 3"):
        Images.read(tmp_path, 32, 3)


def test_a_mask_of_another_size_is_refused(data: Path, tmp_path: Path) -> None:
    write_pair(tmp_path, "a", (20, 20))
    write_image(tmp_path / "masks" / "a.png", np.zeros((32, 48)))
    with pytest.raises(QtsegError, match=r"a\.png: mask of 48x32 for an image of 64x64"):
        Images.read(tmp_path, 32, 2)


def test_only_as_many_as_asked_are_read_from_all_over_the_split(data: Path) -> None:
    assert Images.read(data / "train", 32, 2, at_most=2).names == ("t0.png", "wide.png")
    assert len(Images.read(data / "train", 32, 2, at_most=9)) == 4


def test_opacity_is_left_out(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    write_image(tmp_path / "images" / "a.png", np.dstack([colours, np.full((64, 64), 7)]))
    write_image(tmp_path / "masks" / "a.png", np.eye(64) * 255)
    np.testing.assert_array_equal(Images.read(tmp_path, 64, 2).frames[0].numpy(), colours[..., ::-1])


def test_a_smaller_side_shows_the_same_picture(data: Path) -> None:
    images = Images.read(data / "train", 96, 2)
    small = images.resized(32)
    assert (small.side, small.names) == (32, images.names)
    assert small.frames.shape == (4, 32, 32, 3) and small.masks.shape == (4, 32, 32)
    averages = images.frames[:, :96].float().reshape(4, 32, 3, 32, 3, 3).mean(dim=(2, 4))
    assert (small.frames.float() - averages).abs().max() <= 1, "a third of the side: each pixel is the mean of nine"
    centres = images.masks[:, 1::3, 1::3]
    assert torch.equal(small.masks, centres)


def test_the_same_side_is_the_same_object(data: Path) -> None:
    images = Images.read(data / "val", 64, 2)
    assert images.resized(64) is images


def test_a_batch_is_in_the_asked_order_from_0_to_1(data: Path) -> None:
    images = Images.read(data / "train", 64, 2)
    frames, masks = images.batch(torch.tensor([2, 0]), ALONE.device)
    assert frames.shape == (2, 3, 64, 64) and masks.shape == (2, 1, 64, 64)
    assert frames.dtype == masks.dtype == torch.float32
    assert torch.equal(frames[0], images.frames[2].permute(2, 0, 1).float() / 255)
    assert torch.equal(masks[1, 0], images.masks[0].float())
    assert frames.min() >= 0 and frames.max() <= 1
