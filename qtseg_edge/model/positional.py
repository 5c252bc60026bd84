"""Random Fourier positional encoding, computed once per feature-map size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class PositionalEncoding(nn.Module):
    """sin and cos of random projections of the pixel centres.

    The projection is drawn once and saved with the weights: a model loaded without its own
    projection is plausible garbage, so it is a buffer and loading is strict.
    """

    gaussian: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("gaussian", torch.randn(2, channels // 2))
        self._of_size: dict[tuple[int, int], Tensor] = {}
        self.register_load_state_dict_post_hook(lambda module, _: module._of_size.clear())  # type: ignore[no-untyped-call]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> PositionalEncoding:
        self._of_size.clear()  # the buffer is about to move to another device or type
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def forward(self, height: int, width: int) -> Tensor:
        """(1, H*W, C), row by row."""
        if (height, width) not in self._of_size:
            self._of_size[height, width] = self._encode(height, width)
        return self._of_size[height, width]

    @torch.no_grad()
    def _encode(self, height: int, width: int) -> Tensor:
        device = self.gaussian.device
        y = 2 * (torch.arange(height, device=device) + 0.5) / height - 1  # (H,) pixel centres in -1..1
        x = 2 * (torch.arange(width, device=device) + 0.5) / width - 1  # (W,)
        of_x, of_y = self.gaussian.float()  # (C/2,) each
        # Products element by element: a matrix product would be rounded to half precision under autocast, and kept.
        radians = 2 * math.pi * (x[None, :, None] * of_x + y[:, None, None] * of_y)  # (H, W, C/2)
        encoding = torch.cat([radians.sin(), radians.cos()], dim=-1)  # (H, W, C)
        return encoding.reshape(1, height * width, -1).to(self.gaussian.dtype)
