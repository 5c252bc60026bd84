"""Tokens look at features without keys or values of any pixel.

With q = Wq t + bq (scaled), the score of a token t and a pixel x is q . (Wk x + bk) = (Wk^T q) . x + q . bk. The second term is the
same for all pixels, so the softmax over them cancels it: scores are one small matrix, a row Wk^T q per head and token, times the
raw features. The weights a of the pixels sum to 1, so sum_p a_p (Wv x_p + bv) = Wv (sum_p a_p x_p) + bv: values are taken of the
weighted sum alone, and bv joins the bias of the output.

Shapes: N batch, K tokens, A heads, C channels, P pixels.
"""

from __future__ import annotations

from torch import Tensor, nn

from qtseg_edge.model.attention import Attention


class TokenAttention(nn.Module):
    """`Attention` in two steps: `directions`, whose product with the features are the scores, and `gathered`, from what these select."""

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        self.heads, self.scale = plain.heads, plain.scale
        self.query_weight = nn.Parameter(plain.query.weight.detach().t().clone())  # (C, C/2)
        self.query_bias = nn.Parameter(plain.query.bias.detach().clone())  # (C/2,)
        self.key_weight = nn.Parameter(plain.key.weight.detach().unflatten(0, (self.heads, -1)).clone())  # (A, c, C)
        values = plain.value.weight.detach().unflatten(0, (self.heads, -1))  # (A, c, C)
        self.value_weight = nn.Parameter(values.transpose(1, 2).clone())  # (A, C, c)
        out = plain.out.weight.detach()  # (C, C/2)
        self.out_weight = nn.Parameter(out.t().clone())  # (C/2, C)
        self.out_bias = nn.Parameter(plain.out.bias.detach() + out @ plain.value.bias.detach())  # (C,)

    def directions(self, tokens: Tensor) -> Tensor:
        """(N, K, C) -> (N, A*K, C): scores are their products with the pixels."""
        query: Tensor = ((tokens @ self.query_weight + self.query_bias) * self.scale).unflatten(2, (self.heads, -1))  # (N, K, A, c)
        return (query.transpose(1, 2) @ self.key_weight).flatten(1, 2)  # (N, A*K, C)

    def gathered(self, sums: Tensor) -> Tensor:
        """Of each direction the features summed by its weights, (N, A*K, C) -> what the tokens have seen, (N, K, C)."""
        values: Tensor = sums.unflatten(1, (self.heads, -1)) @ self.value_weight  # (N, A, K, c)
        return values.transpose(1, 2).flatten(2) @ self.out_weight + self.out_bias  # (N, K, C)
