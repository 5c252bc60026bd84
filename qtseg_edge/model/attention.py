"""The three attentions of the decoder: multi-head, spatial and channel.

Shapes: N batch, C channels, P = H*W pixels, K query tokens. Feature maps travel as (N, P, C).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention whose inner width is half the outer one."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        inner = channels // 2
        if inner % heads:
            raise ValueError(f"attention: inner width {inner} must be divisible by heads {heads}")
        self.heads = heads
        self.scale = (inner // heads) ** -0.5
        self.query = nn.Linear(channels, inner)
        self.key = nn.Linear(channels, inner)
        self.value = nn.Linear(channels, inner)
        self.out = nn.Linear(inner, channels)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query (N, Q, C), key and value (N, L, C) -> (N, Q, C)."""
        q = self._split(self.query(query)) * self.scale  # (N, heads, Q, c)
        k = self._split(self.key(key))  # (N, heads, L, c)
        v = self._split(self.value(value))  # (N, heads, L, c)
        weights = (q @ k.transpose(2, 3)).softmax(dim=-1)  # (N, heads, Q, L)
        mixed = (weights @ v).transpose(1, 2).flatten(2)  # (N, Q, C/2)
        return self.out(mixed)  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(2, (self.heads, -1))
        return heads.transpose(1, 2)  # (N, L, C/2) -> (N, heads, L, c)


class SpatialAttention(nn.Module):
    """Weights every pixel by a 7x7 convolution over the mean and the maximum of its channels, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """(N, P, C) -> (N, P, C)."""
        summary = torch.stack([x.mean(dim=2), x.amax(dim=2)], dim=1)  # (N, 2, P)
        weights: Tensor = self.conv(summary.unflatten(2, size_hw)).sigmoid()  # (N, 1, H, W)
        return x * weights.flatten(2).transpose(1, 2) + x


class ChannelAttention(nn.Module):
    """Mixes channels by the softmax of their inverted affinity, residual with one learned scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, P, C) -> (N, P, C)."""
        weights = self._weights(x).to(x.dtype)  # (N, C, C)
        return self.gamma * (x @ weights.transpose(1, 2)) + x

    @staticmethod
    def _weights(x: Tensor) -> Tensor:
        # Unscaled sums over all pixels: beyond 1e4 at 64x64, so neither half precision nor autocast may touch them.
        device = x.device.type if x.device.type != "meta" else "cpu"  # autocast does not know where only shapes are computed
        with torch.autocast(device, enabled=False):
            wide = x.float()
            affinity = wide.transpose(1, 2) @ wide  # (N, C, C)
            return (affinity.amax(dim=2, keepdim=True) - affinity).softmax(dim=2)
