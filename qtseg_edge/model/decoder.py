"""The dual-mix decoder: learned class tokens and feature maps refine each other from stride 32 up to stride 2.

Shapes: N batch, K tokens (classes, background included), C channels, P = H*W pixels.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from qtseg_edge.model.attention import Attention, ChannelAttention, SpatialAttention
from qtseg_edge.model.positional import PositionalEncoding


class DualMixBlock(nn.Module):
    """Tokens look at the features through a spatial and a channel attention; features look back at the tokens."""

    def __init__(self, channels: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.spatial = SpatialAttention()
        self.channel = ChannelAttention()
        self.attend_spatial = Attention(channels, heads)
        self.attend_channel = Attention(channels, heads)
        self.mix_norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, mlp_width), nn.GELU(), nn.Linear(mlp_width, channels), nn.LayerNorm(channels))
        self.attend_tokens = Attention(channels, heads)

    def forward(self, tokens: Tensor, x: Tensor, encoding: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """tokens (N, K, C), x (N, P, C), encoding (1, P, C) -> new tokens and x, same shapes."""
        placed = x + encoding
        spatial = self.spatial(placed, size_hw)
        channel = self.channel(placed)
        seen = self.attend_spatial(tokens, spatial, spatial) + self.attend_channel(tokens, channel, channel)
        mixed = self.mix_norm(seen + tokens)  # (N, K, C)
        new_tokens = self.mlp(mixed) + tokens
        new_x = self.attend_tokens(spatial + channel + encoding, mixed, mixed) + x
        return new_tokens, new_x


class PerTokenMlp(nn.Module):
    """A three-layer MLP (ReLU between) of its own for every token, computed as batched products."""

    def __init__(self, tokens: int, channels: int, out_channels: int) -> None:
        super().__init__()
        widths = [channels, channels, channels, out_channels]
        shapes = list(pairwise(widths))
        self.weights = nn.ParameterList(torch.empty(tokens, i, o) for i, o in shapes)
        self.biases = nn.ParameterList(torch.empty(tokens, 1, o) for _, o in shapes)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            bound = 1 / math.sqrt(weight.shape[1])  # as nn.Linear draws them
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, K, C) -> (N, K, C')."""
        x = tokens.transpose(0, 1)  # (K, N, C)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight + bias
            x = functional.relu(x) if layer < 2 else x
        return x.transpose(0, 1)


class Upsample(nn.Module):
    """Transposed 2x2 convolution with bias, LayerNorm over channels, GELU: (N, C, H, W) -> (N, C', 2H, 2W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 2, 2)
        self.norm = nn.LayerNorm(out_channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(self.conv(x).permute(0, 2, 3, 1))  # (N, 2H, 2W, C')
        return functional.gelu(normed).permute(0, 3, 1, 2)


class Stage(nn.Module):
    """One decoder level: blocks, a last look of the tokens at the features, then features up and tokens down."""

    def __init__(self, channels: int, out_channels: int, tokens: int, depth: int, heads: int, mlp_width: int, up: nn.Module) -> None:
        super().__init__()
        self.positional = PositionalEncoding(channels)
        self.blocks = nn.ModuleList(DualMixBlock(channels, heads, mlp_width) for _ in range(depth))
        self.last_attention = Attention(channels, heads)
        self.last_norm = nn.LayerNorm(channels)
        self.token_mlp = PerTokenMlp(tokens, channels, out_channels)
        self.up = up

    def forward(self, tokens: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (N, K, C), features (N, C, H, W) -> tokens (N, K, C'), features (N, C', fH, fW) as `up` says."""
        height, width = features.shape[2:]
        x = features.flatten(2).transpose(1, 2)  # (N, P, C)
        encoding = self.positional(height, width)
        entering = tokens
        for block in self.blocks:
            tokens, x = block(tokens, x, encoding, (height, width))
        tokens = self.last_norm(tokens + self.last_attention(tokens + entering, x + encoding, x))
        features = x.transpose(1, 2).unflatten(2, (height, width))  # (N, C, H, W)
        return self.token_mlp(tokens), self.up(features)


class DualMixDecoder(nn.Module):
    """Levels of 4n, 8n, 16n channels at strides 8, 16, 32 -> logits (N, K, H, W) at full size."""

    def __init__(
        self,
        channels: tuple[int, int, int],
        classes: int = 2,
        depths: tuple[int, int, int] = (1, 2, 3),
        heads: int = 8,
        mlp_width: int = 2048,
    ) -> None:
        super().__init__()
        c0, c1, c2 = channels
        self.tokens = nn.Parameter(torch.randn(classes, c2))
        last_up = nn.Sequential(Upsample(c0, c0 // 2), Upsample(c0 // 2, c0))
        self.stage2 = Stage(c2, c1, classes, depths[2], heads, mlp_width, Upsample(c2, c1))
        self.stage1 = Stage(c1, c0, classes, depths[1], heads, mlp_width, Upsample(c1, c0))
        self.stage0 = Stage(c0, c0, classes, depths[0], heads, mlp_width, last_up)

    def forward(self, levels: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        level0, level1, level2 = levels
        tokens = self.tokens[None]  # (1, K, 16n): the first attention broadcasts it over the batch
        tokens, x = self.stage2(tokens, level2)  # (N, K, 8n), (N, 8n, H/16, W/16)
        tokens, x = self.stage1(tokens, level1 + x)  # (N, K, 4n), (N, 4n, H/8, W/8)
        tokens, x = self.stage0(tokens, level0 + x)  # (N, K, 4n), (N, 4n, H/2, W/2)
        rows = x.flatten(2).transpose(1, 2) @ tokens.transpose(1, 2)  # (N, HW/4, K): pixels as rows, the order in memory
        logits = rows.transpose(1, 2).unflatten(2, x.shape[2:])  # (N, K, H/2, W/2)
        return functional.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)  # (N, K, H, W)
