"""Multi-level feature distribution: every decoder level gets a share of every encoder output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qtseg_edge.model.layers import ConvNormAct, UpConvNormAct


class FeatureDistribution(nn.Module):
    """Encoder features at strides 8, 16, 32 -> levels 0, 1, 2 of 4n, 8n, 16n channels at the same strides."""

    def __init__(self, in_channels: tuple[int, int, int], width: int = 16) -> None:
        super().__init__()
        n = width
        c3, c4, c5 = in_channels
        self.channels = (4 * n, 8 * n, 16 * n)
        self.level0 = nn.ModuleList([ConvNormAct(c3, 2 * n), UpConvNormAct(c4, n, 2), UpConvNormAct(c5, n, 4)])
        self.level1 = nn.ModuleList([ConvNormAct(c3, 2 * n, 3, 2), ConvNormAct(c4, 4 * n), UpConvNormAct(c5, 2 * n, 2)])
        self.level2 = nn.ModuleList([ConvNormAct(c3, 4 * n, 3, 4), ConvNormAct(c4, 4 * n, 3, 2), ConvNormAct(c5, 8 * n)])

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        return self._share(self.level0, features), self._share(self.level1, features), self._share(self.level2, features)

    @staticmethod
    def _share(level: nn.ModuleList, features: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.cat([convert(feature) for convert, feature in zip(level, features, strict=True)], dim=1)
