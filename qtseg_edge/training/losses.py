"""Cross-entropy plus soft Dice of the foreground, the authors' pair."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_SMOOTH = 1.0


def segmentation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """logits (N, K, H, W), labels (N, H, W) class indices -> scalar.

    Dice is taken per image over the probability of being foreground, then averaged; the smoothing term lets an image
    without foreground contribute a finite, falling loss.
    """
    logits = logits.float()
    cross_entropy = functional.cross_entropy(logits, labels)
    foreground = 1 - torch.softmax(logits, dim=1)[:, 0]  # (N, H, W)
    target = (labels > 0).float()
    intersection = (foreground * target).sum(dim=(1, 2))
    total = foreground.sum(dim=(1, 2)) + target.sum(dim=(1, 2))
    dice = (2 * intersection + _SMOOTH) / (total + _SMOOTH)  # (N,)
    return cross_entropy + (1 - dice).mean()
