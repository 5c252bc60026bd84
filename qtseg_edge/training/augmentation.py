"""Augmentation of image and mask together: geometry and colour by kornia, what endoscopes do to a picture, and empty images."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import kornia.augmentation as kornia
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor, nn
from torch.nn import functional

from qtseg_edge.training.endoscope import hide_border, highlights, vignette


class Augmentation(nn.Module):
    """images (N, 3, H, W) float 0..1 and masks (N, 1, H, W) float class indices -> the same, changed at random.

    strength: of geometry and colour; 0 flips only, 1 the ranges below, others in proportion. endoscope: probability of each
    endoscope-typical change, halved for the black border. empty_share: share of images turned into ones without a lesion.
    All of it is drawn from torch's global generator.
    """

    def __init__(self, strength: float, endoscope: float, empty_share: float) -> None:
        super().__init__()
        self.endoscope = endoscope
        self.lens = min(1.0, 0.2 * strength)  # probability of each of blur or sharpening, sensor noise and JPEG
        self.empty_share = empty_share
        self.geometry = kornia.AugmentationSequential(
            kornia.RandomHorizontalFlip(p=0.5),
            kornia.RandomVerticalFlip(p=0.5),
            *_geometry(strength),
            data_keys=["input", "mask"],  # masks are warped by nearest neighbour: class indices cannot be mixed
        )
        self.colour = nn.Sequential(*_colour(strength))
        self.cutout = kornia.RandomErasing((0.01, 0.06), (0.4, 2.5), p=min(1.0, 0.15 * strength))

    @torch.no_grad()
    def forward(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        images, masks = _some_emptied(images, masks, self.empty_share)
        images, labels = self.geometry(images, masks)
        images = self.cutout(self.colour(images).clamp(0, 1))
        images = _chosen(self.endoscope, images, vignette)
        images = _chosen(self.endoscope, images, highlights)
        for change in (_resharpened, _noisy, _jpeg):
            images = _chosen(self.lens, images, change)
        return _bordered(self.endoscope / 2, images, labels)


def _geometry(strength: float) -> list[kornia.RandomAffine]:
    if strength == 0:
        return []
    low, high = 0.75**strength, 1.35**strength
    return [
        kornia.RandomAffine(
            degrees=45.0 * strength,
            translate=(min(0.4, 0.12 * strength),) * 2,
            scale=(low, high, low, high),  # x and y apart: the aspect changes too
            shear=10.0 * strength,
            p=0.8,
        )
    ]


def _colour(strength: float) -> list[nn.Module]:
    if strength == 0:
        return []
    spread = min(0.9, 0.3 * strength)
    return [
        kornia.ColorJiggle(spread, spread, spread, 0.0, p=0.5),
        kornia.RandomPlanckianJitter(p=0.3),  # white balance
        kornia.RandomGamma((0.75**strength, 1.4**strength), p=0.2),
    ]


def _resharpened(images: Tensor) -> Tensor:
    """From blurred to sharpened: away from, or beyond, what a Gaussian leaves of the image."""
    blurred = gaussian_blur2d(images, (7, 7), (1.5, 1.5))
    amount = 2.0 * torch.rand(len(images), 1, 1, 1, device=images.device) - 1.0
    return (images + amount * (images - blurred)).clamp(0, 1)


def _noisy(images: Tensor) -> Tensor:
    deviation = 0.05 * torch.rand(len(images), 1, 1, 1, device=images.device)
    return (images + deviation * torch.randn_like(images)).clamp(0, 1)


def _jpeg(images: Tensor) -> Tensor:
    """Each image as a JPEG of its own quality keeps it. OpenCV's: kornia's takes a hundred times as long on a CPU."""
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()  # (N, H, W, 3)
    qualities = torch.randint(20, 85, (len(images),)).tolist()
    encoded = [
        cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for image, quality in zip(pixels, qualities, strict=True)
    ]
    decoded = [torch.from_numpy(cv2.imdecode(data, cv2.IMREAD_COLOR)) for data in encoded]
    return torch.stack(decoded).to(images.device).permute(0, 3, 1, 2).float() / 255


def _chosen(probability: float, images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    chosen = torch.rand(len(images), device=images.device) < probability
    if not chosen.any():
        return images
    images = images.clone()
    images[chosen] = change(images[chosen])
    return images


def _bordered(probability: float, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    chosen = torch.rand(len(images), device=images.device) < probability
    if not chosen.any():
        return images, labels
    images, labels = images.clone(), labels.clone()
    images[chosen], labels[chosen] = hide_border(images[chosen], labels[chosen])
    return images, labels


def _some_emptied(images: Tensor, masks: Tensor, share: float) -> tuple[Tensor, Tensor]:
    chosen = torch.rand(len(images)) < share
    if not chosen.any():
        return images, masks
    images, masks = images.clone(), masks.clone()
    for index in chosen.nonzero().flatten().tolist():
        images[index], masks[index] = _emptied(images[index], masks[index])
    return images, masks


def _emptied(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """An image without a lesion: a square of this one's background, or now and then a lost signal."""
    kind, brightness, above, left_of = torch.rand(4).tolist()
    if kind < 0.2:
        colour = torch.rand(3, 1, 1, device=image.device) * (0.0 if brightness < 1 / 3 else 0.1 if brightness < 2 / 3 else 1.0)
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
    y, x = y0 + round(above * (y1 - y0 - side)), x0 + round(left_of * (x1 - x0 - side))
    crop = image[None, :, y : y + side, x : x + side]
    return functional.interpolate(crop, size=(height, width), mode="bilinear", antialias=False)[0], torch.zeros_like(mask)
