"""The dual-mix block around its few tokens: the spatial and the channel branch are never formed.

Let x be the placed features, features plus encoding. Spatial attention gives s = (1 + w) x, w a number per pixel; channel attention
gives c = x + gamma W x = B x, W a matrix of C x C. All that is asked of s and c are products with a few directions m and sums over
pixels:

    m . s_p = (1 + w_p) (m . x_p)        sum_p a_p s_p = sum_p (a_p (1 + w_p)) x_p
    m . c_p = (B^T m) . x_p              sum_p a_p c_p = B sum_p a_p x_p

so both are scalings of scores and weights, and small products with B, of the same x. In softmax(rowmax(A) - A) the row's maximum is
the same for the whole row and cancels: it is softmax(-A). The features go on with their encoding, which the next block would add
again.

Shapes: N batch, K tokens, C channels, P = H*W pixels, R directions. Features are (N, C, P), as convolutions give them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qtseg_edge.model.attention import ChannelAttention, SpatialAttention
from qtseg_edge.model.decoder import DualMixBlock
from qtseg_edge.model.rewritten.feature_attention import FeatureAttention
from qtseg_edge.model.rewritten.token_attention import TokenAttention


class SpatialScale(nn.Module):
    """1 + w: what spatial attention multiplies every pixel by."""

    def __init__(self, plain: SpatialAttention) -> None:
        super().__init__()
        self.conv = plain.conv

    def forward(self, x: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """(N, C, P) -> (N, 1, P)."""
        summary = torch.stack([x.mean(dim=1), x.amax(dim=1)], dim=1)  # (N, 2, P)
        weights: Tensor = self.conv(summary.unflatten(2, size_hw)).sigmoid()  # (N, 1, H, W)
        return weights.flatten(2) + 1


class ChannelMixing(nn.Module):
    """gamma W: what channel attention adds to the identity. Unscaled sums over all pixels: not for half precision."""

    def __init__(self, plain: ChannelAttention) -> None:
        super().__init__()
        self.gamma = plain.gamma

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, P) -> (N, C, C)."""
        affinity = x @ x.transpose(1, 2)  # (N, C, C)
        return self.gamma * (-affinity).softmax(dim=2)


class RewrittenBlock(nn.Module):
    """`DualMixBlock`, on features that have their encoding already."""

    def __init__(self, plain: DualMixBlock, tokens: int) -> None:
        super().__init__()
        self.spatial = SpatialScale(plain.spatial)
        self.channel = ChannelMixing(plain.channel)
        self.attend_spatial = TokenAttention(plain.attend_spatial)
        self.attend_channel = TokenAttention(plain.attend_channel)
        self.mix_norm, self.mlp = plain.mix_norm, plain.mlp
        self.attend_tokens = FeatureAttention(plain.attend_tokens, tokens)

    def forward(self, tokens: Tensor, x: Tensor, encoding: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """tokens (N or 1, K, C), x (N, C, P) with encoding, encoding (1, C, P) -> new tokens and x, same shapes."""
        scale, mixing = self.spatial(x, size_hw), self.channel(x)  # (N, 1, P), (N, C, C)
        mixed = self.mix_norm(self._seen(tokens, x, scale, mixing) + tokens)  # (N, K, C)
        looks = self.attend_tokens.looks(mixed)
        both = torch.cat([looks.directions, _through(looks.directions, mixing)], dim=1) @ x  # (N, 2R, P)
        of_spatial, of_channel = both.chunk(2, dim=1)
        scores = of_spatial * scale + of_channel + looks.directions @ encoding + looks.offsets  # (N, R, P)
        return self.mlp(mixed) + tokens, x + self.attend_tokens.received(scores, looks)

    def _seen(self, tokens: Tensor, x: Tensor, scale: Tensor, mixing: Tensor) -> Tensor:
        """What the tokens see in both branches, (N, K, C)."""
        in_spatial = self.attend_spatial.directions(tokens) @ x  # (N, R, P)
        in_channel = _through(self.attend_channel.directions(tokens), mixing) @ x  # (N, R, P)
        weights = torch.cat([(in_spatial * scale).softmax(dim=2) * scale, in_channel.softmax(dim=2)], dim=1)  # (N, 2R, P)
        from_spatial, from_channel = (weights @ x.transpose(1, 2)).chunk(2, dim=1)  # (N, R, C)
        from_channel = from_channel + from_channel @ mixing.transpose(1, 2)
        return self.attend_spatial.gathered(from_spatial) + self.attend_channel.gathered(from_channel)


def _through(directions: Tensor, mixing: Tensor) -> Tensor:
    """B^T m for every row m of (N, R, C)."""
    return directions + directions @ mixing
