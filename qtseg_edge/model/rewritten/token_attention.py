"""Tokens look at features without keys or values of any pixel.

With q = Wq t + bq (scaled), the score of a token t and a pixel x is q . (Wk x + bk) = (Wk^T q) . x + q . bk. The second term is the
same for all pixels, so the softmax over them cancels it: scores are one small matrix, a row Wk^T q per head and token, times the
raw features. The weights a of the pixels sum to 1, so sum_p a_p (Wv x_p + bv) = Wv (sum_p a_p x_p) + bv: values are taken of the
weighted sum alone, and bv joins the bias of the output.

Several attentions of the same tokens whose outputs are added are one that has the heads of all.

Shapes: N batch, K tokens, A heads of all attentions together, C channels, c channels of a head, P pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qtseg_edge.model.attention import Attention


class TokenAttention(nn.Module):
    """The sum of `Attention`s of equal widths in two steps: `directions`, whose product with the features are the scores, and `gathered`,
    from what these select. Directions are in the order of the attentions.
    """

    def __init__(self, *plains: Attention) -> None:
        super().__init__()
        self.scale = plains[0].scale
        self.heads = sum(plain.heads for plain in plains)
        self.query_weight = _joined([plain.query.weight.t() for plain in plains], 1)  # (C, A*c)
        self.query_bias = _joined([plain.query.bias for plain in plains], 0)  # (A*c,)
        self.key_weight = _joined([_by_head(plain.key.weight, plain.heads) for plain in plains], 0)  # (A, c, C)
        values = [_by_head(plain.value.weight, plain.heads).transpose(1, 2) for plain in plains]
        self.value_weight = _joined(values, 0)  # (A, C, c)
        self.out_weight = _joined([plain.out.weight.t() for plain in plains], 0)  # (A*c, C)
        biases = [plain.out.bias.detach() + plain.out.weight.detach() @ plain.value.bias.detach() for plain in plains]
        self.out_bias = nn.Parameter(torch.stack(biases).sum(dim=0))  # (C,)

    def directions(self, tokens: Tensor) -> Tensor:
        """(N, K, C) -> (N, A*K, C): scores are their products with the pixels."""
        query: Tensor = ((tokens @ self.query_weight + self.query_bias) * self.scale).unflatten(2, (self.heads, -1))  # (N, K, A, c)
        return (query.transpose(1, 2) @ self.key_weight).flatten(1, 2)  # (N, A*K, C)

    def gathered(self, sums: Tensor) -> Tensor:
        """Of each direction the features summed by its weights, (N, A*K, C) -> what the tokens have seen, (N, K, C)."""
        values: Tensor = sums.unflatten(1, (self.heads, -1)) @ self.value_weight  # (N, A, K, c)
        return values.transpose(1, 2).flatten(2) @ self.out_weight + self.out_bias


def _joined(parts: list[Tensor], dim: int) -> nn.Parameter:
    return nn.Parameter(torch.cat([part.detach() for part in parts], dim))


def _by_head(weight: Tensor, heads: int) -> Tensor:
    by_head: Tensor = weight.unflatten(0, (heads, -1))
    return by_head
