"""Augmentation of image and mask together (kornia), and images that must stay empty."""

from __future__ import annotations

import random

import kornia.augmentation as kornia
import torch
from torch import Tensor, nn
from torch.nn import functional


class Augmentation(nn.Module):
    """images (N, 3, H, W) float 0..1 and masks (N, 1, H, W) float 0 or 1 -> the same, changed at random."""

    def __init__(self, empty_share: float = 0.05) -> None:
        super().__init__()
        self.empty_share = empty_share
        self.geometry_and_colour = kornia.AugmentationSequential(
            kornia.RandomHorizontalFlip(p=0.5),
            kornia.RandomVerticalFlip(p=0.5),
            kornia.RandomAffine(degrees=45.0, translate=(0.1, 0.1), scale=(0.75, 1.4, 0.75, 1.4), shear=8.0, p=0.5),
            kornia.ColorJiggle(brightness=(0.75, 1.25), contrast=(0.75, 1.25), saturation=(0.7, 1.3), hue=(-0.02, 0.02), p=0.5),
            kornia.RandomGaussianBlur(kernel_size=(5, 5), sigma=(0.3, 1.5), p=0.1),
            kornia.RandomGaussianNoise(std=0.02, p=0.1),
            data_keys=["input", "mask"],
            extra_args={},  # masks are warped bilinearly and cut at one half, smoother than nearest
        )

    @torch.no_grad()
    def forward(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        images, masks = images.clone(), masks.clone()
        for index in range(len(images)):
            if random.random() < self.empty_share:
                images[index], masks[index] = _emptied(images[index], masks[index])
        changed, changed_masks = self.geometry_and_colour(images, masks)
        return changed.clamp(0, 1), (changed_masks > 0.5).float()


def _emptied(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """An image without a lesion: a square of this one's background, or now and then a lost signal."""
    if random.random() < 0.2:
        colour = torch.rand(3, 1, 1) * random.choice([0.0, 0.1, 1.0])
        return (colour + 0.01 * torch.randn_like(image)).clamp(0, 1), torch.zeros_like(mask)
    rows, columns = mask[0].amax(dim=1).nonzero(), mask[0].amax(dim=0).nonzero()
    height, width = image.shape[1:]
    if len(rows) == 0:
        return image, mask
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    strips = [(0, top, 0, width), (bottom, height, 0, width), (0, height, 0, left), (0, height, right, width)]
    y0, y1, x0, x1 = max(strips, key=lambda s: min(s[1] - s[0], s[3] - s[2]))
    side = min(y1 - y0, x1 - x0)
    if side < 0.25 * min(height, width):
        return image, mask
    y, x = random.randint(y0, y1 - side), random.randint(x0, x1 - side)
    crop = image[None, :, y : y + side, x : x + side]
    return functional.interpolate(crop, size=(height, width), mode="bilinear", antialias=False)[0], torch.zeros_like(mask)
