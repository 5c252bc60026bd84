"""GELU in the order of operations that inference engines know as one: ONNX Runtime fuses x (1 + erf(x / sqrt 2)) / 2 read from left to
right, and not x ((1 + erf(x / sqrt 2)) / 2), which is what torch's own exporter writes. The values are the same.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Gelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.erf(x / math.sqrt(2)) + 1) * 0.5


def with_gelu(plain: nn.Sequential) -> nn.Sequential:
    """The same layers, which are shared, with `Gelu` for torch's."""
    return nn.Sequential(*(Gelu() if isinstance(layer, nn.GELU) else layer for layer in plain))
