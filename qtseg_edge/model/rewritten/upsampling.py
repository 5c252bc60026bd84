"""Transposed 2x2 convolutions as one matrix product, with the pixels in the order in which they come out.

With kernel = stride, an output pixel depends on one input pixel: y[2i+a, 2j+b] = W_ab^T x[i, j] + bias. So the four outputs of a
pixel are one row of x times a matrix of (C, 4 C'), and LayerNorm and GELU, which work on single pixels, do not mind their order.
Only what is left at the end, one channel per class, is put in the order of the picture.

Shapes: N batch, C channels, R rows: pixels of a coarser map, each followed by its parts (a, b).
"""

from __future__ import annotations

from torch import Tensor, nn

from qtseg_edge.model.decoder import Upsample
from qtseg_edge.model.rewritten.gelu import Gelu

_PARTS = 4  # of a pixel, 2x2


class RowUpsample(nn.Module):
    """`Upsample` on rows: (N, R, C) -> (N, 4R, C')."""

    def __init__(self, plain: Upsample) -> None:
        super().__init__()
        weight, bias = plain.conv.weight.detach(), plain.conv.bias
        assert bias is not None
        self.channels = weight.shape[1]
        self.weight = nn.Parameter(weight.permute(0, 2, 3, 1).flatten(1).clone())  # (C, C', 2, 2) -> (C, 4C')
        self.bias = nn.Parameter(bias.detach().repeat(_PARTS))  # (4C',)
        self.norm, self.gelu = plain.norm, Gelu()

    def forward(self, rows: Tensor) -> Tensor:
        parts = (rows @ self.weight + self.bias).unflatten(2, (_PARTS, self.channels))  # (N, R, 4, C')
        activated: Tensor = self.gelu(self.norm(parts.flatten(1, 2)))
        return activated


def picture_of(rows: Tensor, size_hw: tuple[int, int], times: int) -> Tensor:
    """(N, H*W*4^times, C), the pixels of an H x W map upsampled so many times -> (N, C, H*2^times, W*2^times)."""
    height, width = size_hw
    channels = rows.shape[2]
    grid: Tensor = rows.unflatten(1, (height, width, *(2,) * (2 * times)))  # (N, H, W, a, b, a', b'..., C)
    order = [0, 1, *range(3, 3 + 2 * times, 2), 2, *range(4, 3 + 2 * times, 2), 3 + 2 * times]
    # Two permutations that move whole rows of channels, then a matrix, are faster than one that moves single numbers.
    return grid.permute(order).flatten(1, -2).transpose(1, 2).reshape(-1, channels, height << times, width << times)
