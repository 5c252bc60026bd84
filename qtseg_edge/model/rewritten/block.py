"""The dual-mix block around its few tokens: the spatial and the channel branch are never formed.

Let x be the placed features, features plus encoding. Spatial attention gives s = (1 + w) x, w a number per pixel; channel attention
gives c = x + gamma W x = B x, W a matrix of C x C. All that is asked of s and c are products with a few directions m and sums over
pixels:

    m . s_p = (1 + w_p) (m . x_p)        sum_p a_p s_p = sum_p (a_p (1 + w_p)) x_p
    m . c_p = (B^T m) . x_p              sum_p a_p c_p = B sum_p a_p x_p

so both are scalings of scores and weights, and small products with B, of the same x; and both are computed at once, the rows of the
spatial branch above those of the channel's. In softmax(rowmax(A) - A) the row's maximum is the same for the whole row and cancels: it
is softmax(-A). The features go on with their encoding, which the next block would add again.

Shapes: N batch, K tokens, C channels, P = H*W pixels, R directions. Features are (N, C, P), as convolutions give them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qtseg_edge.model.attention import ChannelAttention, SpatialAttention
from qtseg_edge.model.decoder import DualMixBlock
from qtseg_edge.model.rewritten.feature_attention import FeatureAttention
from qtseg_edge.model.rewritten.gelu import with_gelu
from qtseg_edge.model.rewritten.token_attention import TokenAttention


class BranchScales(nn.Module):
    """What the features of each branch are multiplied by: 1 + w by spatial attention, 1 for the other branch."""

    is_spatial: Tensor

    def __init__(self, plain: SpatialAttention) -> None:
        super().__init__()
        self.conv = plain.conv
        self.register_buffer("is_spatial", torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1))

    def forward(self, x: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """(N, C, P) -> (N, 2, 1, P)."""
        summary = torch.stack([x.mean(dim=1), x.amax(dim=1)], dim=1)  # (N, 2, P)
        weights: Tensor = self.conv(summary.unflatten(2, size_hw)).sigmoid()  # (N, 1, H, W)
        return weights.flatten(2).unsqueeze(1) * self.is_spatial + 1


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
        self.scales = BranchScales(plain.spatial)
        self.channel = ChannelMixing(plain.channel)
        self.attend_features = TokenAttention(plain.attend_spatial, plain.attend_channel)
        self.mix_norm, self.mlp = plain.mix_norm, with_gelu(plain.mlp)
        self.attend_tokens = FeatureAttention(plain.attend_tokens, tokens)

    def forward(self, tokens: Tensor, x: Tensor, encoding: Tensor, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """tokens (N or 1, K, C), x (N, C, P) with encoding, encoding (1, C, P) -> new tokens and x, same shapes."""
        scales, mixing = self.scales(x, size_hw), self.channel(x)  # (N, 2, 1, P), (N, C, C)
        mixed = self.mix_norm(self._seen(tokens, x, scales, mixing) + tokens)  # (N, K, C)
        looks = self.attend_tokens.looks(mixed)
        both = torch.cat([looks.directions, _through(looks.directions, mixing)], dim=1) @ x  # (N, 2R, P)
        of_spatial, of_channel = both.chunk(2, dim=1)
        scores = of_spatial * scales[:, 0] + of_channel + looks.directions @ encoding + looks.offsets  # (N, R, P)
        return self.mlp(mixed) + tokens, x + self.attend_tokens.received(scores, looks)

    def _seen(self, tokens: Tensor, x: Tensor, scales: Tensor, mixing: Tensor) -> Tensor:
        """What the tokens see in both branches, (N, K, C)."""
        in_spatial, in_channel = self.attend_features.directions(tokens).chunk(2, dim=1)  # (N or 1, R, C)
        # The first block's tokens have no batch yet: the products have.
        scores = torch.stack([in_spatial @ x, _through(in_channel, mixing) @ x], dim=1)  # (N, 2, R, P)
        weights = ((scores * scales).softmax(dim=3) * scales).flatten(1, 2)  # (N, 2R, P)
        from_spatial, from_channel = (weights @ x.transpose(1, 2)).chunk(2, dim=1)  # (N, R, C)
        return self.attend_features.gathered(torch.cat([from_spatial, _through(from_channel, mixing.transpose(1, 2))], dim=1))


def _through(rows: Tensor, mixing: Tensor) -> Tensor:
    """Every row of (N, R, C) times I + mixing."""
    return rows + rows @ mixing
