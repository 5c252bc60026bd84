"""Convolution building blocks shared by the encoder and the feature distribution.

Shapes: N batch, C channels, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_WEAK_NORM = 0.05


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, SiLU. Padding keeps the size at stride 1."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))  # type: ignore[no-any-return]


class UpConvNormAct(nn.Module):
    """Transposed convolution (kernel = stride = `factor`) without bias, batch norm, SiLU."""

    def __init__(self, in_channels: int, out_channels: int, factor: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, factor, factor, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))  # type: ignore[no-any-return]  # (N, C', factor*H, factor*W)


@torch.no_grad()
def absorb_norms(network: nn.Module) -> None:
    """Move the multiplier of every batch norm into its convolution, in place; results stay the same, in training too (but for its eps).

    Folding such a norm into the convolution later leaves the weights as they are, so what was rounded to half precision once is not
    rounded again. A channel that is all but switched off keeps its norm: its variance would not be positive.
    """
    for module in network.modules():
        if not isinstance(module, ConvNormAct | UpConvNormAct):
            continue
        norm, weight = module.norm, module.conv.weight
        variance: Tensor = norm.running_var + norm.eps  # type: ignore[operator, assignment]  # (C',)
        strong = norm.weight.abs() > _WEAK_NORM
        multiplier = torch.where(strong, norm.weight / variance.sqrt(), 1.0)
        weight.mul_(multiplier.view((1, -1, 1, 1) if isinstance(module, UpConvNormAct) else (-1, 1, 1, 1)))
        norm.running_mean.mul_(multiplier)  # type: ignore[union-attr]
        norm.running_var.copy_(variance * multiplier.square() - norm.eps)  # type: ignore[union-attr]
        norm.weight.copy_(torch.where(strong, norm.weight.abs(), norm.weight))


class Bottleneck(nn.Module):
    """Two 3x3 convolutions, with a residual connection where `shortcut`."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.first = ConvNormAct(channels, channels, 3)
        self.second = ConvNormAct(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return x + y if self.shortcut else y


class C2f(nn.Module):
    """Split in two, run bottlenecks over one half, and merge every intermediate result."""

    def __init__(self, in_channels: int, out_channels: int, bottlenecks: int, shortcut: bool) -> None:
        super().__init__()
        half = out_channels // 2
        self.split = ConvNormAct(in_channels, 2 * half)
        self.bottlenecks = nn.ModuleList(Bottleneck(half, shortcut) for _ in range(bottlenecks))
        self.merge = ConvNormAct((2 + bottlenecks) * half, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.split(x).chunk(2, dim=1))
        for bottleneck in self.bottlenecks:
            parts.append(bottleneck(parts[-1]))
        return self.merge(torch.cat(parts, dim=1))  # type: ignore[no-any-return]


class SpatialPyramidPooling(nn.Module):
    """Three 5x5 max-pools one after the other (SPPF): receptive fields of 5, 9 and 13 for the price of three."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvNormAct(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.merge = ConvNormAct(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [self.reduce(x)]
        for _ in range(3):
            pooled.append(self.pool(pooled[-1]))
        return self.merge(torch.cat(pooled, dim=1))  # type: ignore[no-any-return]
