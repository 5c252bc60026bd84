"""What an endoscope does to a picture: light that falls off, wet highlights, a round or cut-off field on black.

Images are (N, 3, H, W) float 0..1; every image gets its own draw from torch's global generator.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def vignette(images: Tensor) -> Tensor:
    """Darker with the distance from a point near the middle, down to a fifth at the corners."""
    n, _, height, width = images.shape
    centre = 0.3 * (torch.rand(2, n, 1, 1, device=images.device) - 0.5)
    y, x = _coordinates(height, width, images.device)
    squared = (y - centre[0]) ** 2 + (x - centre[1]) ** 2  # (N, H, W), 0.5 in a corner
    depth = 0.4 + 1.2 * torch.rand(n, 1, 1, device=images.device)
    return images * (1 - depth * squared).clamp(min=0.2)[:, None]


def highlights(images: Tensor) -> Tensor:
    """White spots with soft rims where smooth noise is highest, mostly where the image is bright already."""
    n, _, height, width = images.shape
    side = int(torch.randint(10, 28, ()))
    noise = functional.interpolate(torch.randn(n, 1, side, side, device=images.device), size=(height, width), mode="bicubic")
    brightness = images.mean(dim=1, keepdim=True)  # (N, 1, H, W)
    score = noise + 1.5 * brightness
    share = 0.002 + 0.018 * torch.rand(n, 1, device=images.device)
    threshold = torch.stack(
        [row.kthvalue(max(1, int((1 - part) * row.numel()))).values for row, part in zip(score.flatten(1), share[:, 0], strict=True)]
    )
    strength = ((score - threshold[:, None, None, None]) * 3).clamp(0, 1)
    return images + (1 - images) * strength


def hide_border(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Black outside of a circle that its frame may cut off; labels (N, 1, H, W) are background there."""
    n, _, height, width = images.shape
    centre = 0.16 * (torch.rand(2, n, 1, 1, device=images.device) - 0.5)
    radius = 0.44 + 0.2 * torch.rand(n, 1, 1, device=images.device)
    y, x = _coordinates(height, width, images.device)
    inside = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2)[:, None]  # (N, 1, H, W)
    return images * inside, labels * inside


def _coordinates(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows (1, H, 1) and columns (1, 1, W) from -0.5 to 0.5."""
    y = torch.linspace(-0.5, 0.5, height, device=device)[None, :, None]
    return y, torch.linspace(-0.5, 0.5, width, device=device)[None, None, :]
