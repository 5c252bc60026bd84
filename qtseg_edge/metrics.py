"""Per-image segmentation scores, as published: computed at the model's size, then averaged over images.

Masks are class indices (H, W); foreground is everything above 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of one image's foreground."""

    intersection: int
    predicted: int
    labelled: int

    @property
    def dice(self) -> float:
        """2|A n B| / (|A| + |B|); 1 where both are empty."""
        total = self.predicted + self.labelled
        return 2 * self.intersection / total if total else 1.0

    @property
    def iou(self) -> float:
        """|A n B| / |A u B|; 1 where both are empty."""
        union = self.predicted + self.labelled - self.intersection
        return self.intersection / union if union else 1.0


def foreground_overlap(predicted: Uint8, labelled: Uint8) -> Overlap:
    a, b = predicted > 0, labelled > 0
    return Overlap(int(np.count_nonzero(a & b)), int(np.count_nonzero(a)), int(np.count_nonzero(b)))


def agreement(first: Uint8, second: Uint8) -> float:
    """Share of pixels with the same class, 0..1."""
    return float(np.mean(first == second))
