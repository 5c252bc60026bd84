"""Features look at tokens without a query of any pixel.

With k = Wk u + bk (scaled), the score of a pixel f and a token u is (Wq f + bq) . k = (Wq^T k) . f + bq . k: one small matrix, a
row per head and token, times the features, plus a number per row. The softmax runs over the K tokens. For two of them it is the
sigmoid of the difference of the scores, so one row per head does, the difference of both, and what a pixel receives is v0 +
sigmoid(...) (v1 - v0). The output's projection is applied to the tokens' values, of which there are K, not to the pixels.

Shapes: N batch, K tokens, A heads, C channels, P pixels; R rows: A for two tokens, A*K for more.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from qtseg_edge.model.attention import Attention


class Looks(NamedTuple):
    """directions (N, R, C) and offsets (N, R, 1): scores are directions times features plus offsets. values (N, R, C): what a pixel
    receives by the weight of each row. base (N or 1, C, 1): what it receives in any case.
    """

    directions: Tensor
    offsets: Tensor
    values: Tensor
    base: Tensor


class FeatureAttention(nn.Module):
    """`Attention` of features to tokens: `looks` of the tokens, then `received` of the scores."""

    def __init__(self, plain: Attention, tokens: int) -> None:
        super().__init__()
        self.heads, self.tokens, self.scale = plain.heads, tokens, plain.scale
        self.key_weight = nn.Parameter(plain.key.weight.detach().t().clone())  # (C, C/2)
        self.key_bias = nn.Parameter(plain.key.bias.detach().clone())  # (C/2,)
        self.query_weight = nn.Parameter(plain.query.weight.detach().unflatten(0, (self.heads, -1)).clone())  # (A, c, C)
        self.query_bias = nn.Parameter(plain.query.bias.detach().reshape(self.heads, -1, 1).clone())  # (A, c, 1)
        self.value_weight = nn.Parameter(plain.value.weight.detach().t().clone())  # (C, C/2)
        self.value_bias = nn.Parameter(plain.value.bias.detach().clone())  # (C/2,)
        self.out_weight = nn.Parameter(plain.out.weight.detach().t().clone())  # (C/2, C)
        self.out_bias = nn.Parameter(plain.out.bias.detach().clone())  # (C,)

    def looks(self, tokens: Tensor) -> Looks:
        """tokens (N, K, C)."""
        if self.tokens == 2:
            return self._of_difference(tokens)
        directions, offsets, values = self._by_rows(tokens @ self.key_weight + self.key_bias, tokens @ self.value_weight + self.value_bias)
        return Looks(directions, offsets, values, self.out_bias[None, :, None])

    def received(self, scores: Tensor, looks: Looks) -> Tensor:
        """scores (N, R, P) -> (N, C, P)."""
        weights = scores.sigmoid() if self.tokens == 2 else self._over_tokens(scores)  # (N, R, P)
        return looks.values.transpose(1, 2) @ weights + looks.base

    def _of_difference(self, tokens: Tensor) -> Looks:
        """Scores and values are linear in the tokens but for their biases, which cancel: the differences of both are those of u1 - u0."""
        first = tokens[:, :1]  # (N, 1, C)
        difference = tokens[:, 1:] - first
        directions, offsets, values = self._by_rows(difference @ self.key_weight, difference @ self.value_weight)
        base = (first @ self.value_weight + self.value_bias) @ self.out_weight + self.out_bias  # (N, 1, C)
        return Looks(directions, offsets, values, base.transpose(1, 2))

    def _by_rows(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, T, C/2) each -> directions (N, A*T, C), offsets (N, A*T, 1), values (N, A*T, C)."""
        key, value = self._by_head(key * self.scale), self._by_head(value)  # (N, A, T, c)
        out_weight = self.out_weight.unflatten(0, (self.heads, -1))  # (A, c, C)
        rows = (key @ self.query_weight, key @ self.query_bias, value @ out_weight)
        directions, offsets, values = (part.flatten(1, 2) for part in rows)
        return directions, offsets, values

    def _over_tokens(self, scores: Tensor) -> Tensor:
        by_head: Tensor = scores.unflatten(1, (self.heads, -1))  # (N, A, K, P)
        return by_head.softmax(dim=2).flatten(1, 2)

    def _by_head(self, x: Tensor) -> Tensor:
        by_head: Tensor = x.unflatten(2, (self.heads, -1))
        return by_head.transpose(1, 2)  # (N, T, C/2) -> (N, A, T, c)
