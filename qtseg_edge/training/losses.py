"""Cross-entropy plus soft Dice of the foreground, the authors' pair."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_SMOOTH = 1.0


def segmentation_loss(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """logits (N, K, H, W), labels (N, H, W) class indices, class_weights (K,) of the cross-entropy -> scalar.

    Dice is taken per image and foreground class, then averaged; the smoothing term lets a class that is not in an image
    contribute a finite, falling loss.
    """
    log_probabilities = torch.log_softmax(logits.float(), dim=1)
    cross_entropy = functional.nll_loss(log_probabilities, labels, class_weights)
    probabilities = log_probabilities[:, 1:].exp()  # (N, K-1, H, W)
    wanted = torch.arange(1, logits.shape[1], device=labels.device)[None, :, None, None]
    target = (labels[:, None] == wanted).float()  # (N, K-1, H, W)
    intersection = (probabilities * target).sum(dim=(2, 3))
    total = probabilities.sum(dim=(2, 3)) + target.sum(dim=(2, 3))
    dice = (2 * intersection + _SMOOTH) / (total + _SMOOTH)  # (N, K-1)
    return cross_entropy + (1 - dice).mean()
