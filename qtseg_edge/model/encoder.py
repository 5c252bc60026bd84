"""The convolutional encoder: a feature pyramid with a second, bottom-up path.

Any module can stand in its place that has `channels` (three ints) and returns features at
strides 8, 16 and 32 from (N, 3, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from qtseg_edge.model.layers import C2f, ConvNormAct, SpatialPyramidPooling


class CnnEncoder(nn.Module):
    """(N, 3, H, W) -> P3 (N, 4n, H/8, W/8), P4 (N, 8n, H/16, W/16), P5 (N, 16n, H/32, W/32) for base width n."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        n = width
        self.channels = (4 * n, 8 * n, 16 * n)
        self.stem = nn.Sequential(ConvNormAct(3, n, 3, 2), ConvNormAct(n, 2 * n, 3, 2), C2f(2 * n, 2 * n, 1, shortcut=True))
        self.stride8 = nn.Sequential(ConvNormAct(2 * n, 4 * n, 3, 2), C2f(4 * n, 4 * n, 2, shortcut=True))
        self.stride16 = nn.Sequential(ConvNormAct(4 * n, 8 * n, 3, 2), C2f(8 * n, 8 * n, 2, shortcut=True))
        self.stride32 = nn.Sequential(
            ConvNormAct(8 * n, 16 * n, 3, 2), C2f(16 * n, 16 * n, 1, shortcut=True), SpatialPyramidPooling(16 * n)
        )
        self.top_down16 = C2f(24 * n, 8 * n, 1, shortcut=False)
        self.top_down8 = C2f(12 * n, 4 * n, 1, shortcut=False)
        self.down16 = ConvNormAct(4 * n, 4 * n, 3, 2)
        self.bottom_up16 = C2f(12 * n, 8 * n, 1, shortcut=False)
        self.down32 = ConvNormAct(8 * n, 8 * n, 3, 2)
        self.bottom_up32 = C2f(24 * n, 16 * n, 1, shortcut=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x8 = self.stride8(self.stem(image))  # (N, 4n, H/8, W/8)
        x16 = self.stride16(x8)  # (N, 8n, H/16, W/16)
        x32 = self.stride32(x16)  # (N, 16n, H/32, W/32)
        top16 = self.top_down16(torch.cat([_twice(x32), x16], dim=1))
        p3 = self.top_down8(torch.cat([_twice(top16), x8], dim=1))
        p4 = self.bottom_up16(torch.cat([self.down16(p3), top16], dim=1))
        p5 = self.bottom_up32(torch.cat([self.down32(p4), x32], dim=1))
        return p3, p4, p5


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")  # (N, C, 2H, 2W)
