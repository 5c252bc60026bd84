"""The dual-mix decoder assembled from the rewrites.

The encoding is added once per stage and taken away at its end. The last attention has keys with the encoding and values without:
its scores come from x, its sums from x less the encoding. For two classes only the difference of their logits is wanted
(`FrameToMask`), and as the logits are linear in the tokens, the difference of the tokens gives it.

Shapes: N batch, K tokens, C channels, P = H*W pixels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from qtseg_edge.model.decoder import DualMixBlock, DualMixDecoder, Stage, Upsample
from qtseg_edge.model.network import QTSeg
from qtseg_edge.model.rewritten.block import RewrittenBlock
from qtseg_edge.model.rewritten.token_attention import TokenAttention
from qtseg_edge.model.rewritten.upsampling import RowUpsample, picture_of


class RewrittenStage(nn.Module):
    """`Stage`, with its features as rows of upsampled pixels, still to be put in order by `picture_of`."""

    def __init__(self, plain: Stage, tokens: int) -> None:
        super().__init__()
        self.positional = plain.positional
        self.blocks = nn.ModuleList(RewrittenBlock(block, tokens) for block in plain.blocks if isinstance(block, DualMixBlock))
        self.last_attention = TokenAttention(plain.last_attention)
        self.last_norm, self.token_mlp = plain.last_norm, plain.token_mlp
        ups = [up for up in plain.up.modules() if isinstance(up, Upsample)]
        self.up = nn.Sequential(*(RowUpsample(up) for up in ups))

    def forward(self, tokens: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (N, K, C), features (N, C, H, W) -> tokens (N, K, C'), rows (N, P*4^len(up), C')."""
        height, width = features.shape[2:]
        encoding = self.positional(height, width).transpose(1, 2)  # (1, C, P)
        x = features.flatten(2) + encoding  # (N, C, P)
        entering = tokens
        for block in self.blocks:
            tokens, x = block(tokens, x, encoding, (height, width))
        weights = (self.last_attention.directions(tokens + entering) @ x).softmax(dim=2)  # (N, A*K, P)
        rows = (x - encoding).transpose(1, 2)  # (N, P, C)
        tokens = self.last_norm(tokens + self.last_attention.gathered(weights @ rows))
        return self.token_mlp(tokens), self.up(rows)


class RewrittenDecoder(nn.Module):
    """`DualMixDecoder`, of which it shares the norms, MLPs and convolutions. For two classes it gives the second logit less the first."""

    def __init__(self, plain: DualMixDecoder) -> None:
        super().__init__()
        self.tokens = plain.tokens
        classes = plain.tokens.shape[0]
        self.stage2, self.stage1, self.stage0 = (RewrittenStage(stage, classes) for stage in (plain.stage2, plain.stage1, plain.stage0))

    def forward(self, levels: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """-> logits (N, K, H, W); of two classes their difference (N, 1, H, W)."""
        level0, level1, level2 = levels
        tokens = self.tokens[None]  # (1, K, 16n): the first block broadcasts it over the batch
        tokens, rows = self.stage2(tokens, level2)
        tokens, rows = self.stage1(tokens, level1 + picture_of(rows, _size_of(level2), 1))  # (N, 8n, H/16, W/16)
        tokens, rows = self.stage0(tokens, level0 + picture_of(rows, _size_of(level1), 1))  # (N, 4n, H/8, W/8)
        if tokens.shape[1] == 2:
            tokens = tokens[:, 1:] - tokens[:, :1]  # (N, 1, 4n)
        logits = picture_of(rows @ tokens.transpose(1, 2), _size_of(level0), 2)  # (N, K or 1, H/2, W/2)
        return functional.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)


def rewritten(network: QTSeg) -> QTSeg:
    """The network with its decoder rewritten, for inference; it shares what did not have to change. The plain one stays as it is."""
    assert isinstance(network.decoder, DualMixDecoder)
    return QTSeg(network.encoder, network.distribution, RewrittenDecoder(network.decoder)).eval()


def _size_of(features: Tensor) -> tuple[int, int]:
    return features.shape[2], features.shape[3]
