"""Raw mask pixels -> class indices. Lossy files and smoothed edges leave pixels between the classes; those are counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]
RED_AND_GREEN = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.float32)  # RGB of background, class 1, class 2
_GREY_REACH = 64  # levels from black or white up to which a pixel clearly is one of them
_COLOUR_REACH = 150  # the same between colours: edges of a JPEG mix two of them (distance 127), yellow or blue is 255 away


@dataclass(frozen=True)
class Labels:
    """indices: class of every pixel, (h, w). doubtful: pixels that resemble no class; they went to the nearest one."""

    indices: Uint8
    doubtful: int


def binary_labels(levels: NDArray[Any], lossy: bool) -> Labels:
    """Grey (h, w) or colour (h, w, 3) masks of 8 or 16 bits; any colour counts as foreground.

    A lossless mask of only two levels, 0 among them, is taken at its word, be the other 1, 255 or 65535. Everything
    else is cut in the middle of its range.
    """
    grey = levels.max(axis=2) if levels.ndim == 3 else levels
    if not lossy and not ((grey != 0) & (grey != grey.max())).any():
        return Labels((grey > 0).astype(np.uint8), 0)
    if grey.dtype == np.uint16:
        grey = grey >> 8
    doubtful = int(((grey >= _GREY_REACH) & (grey <= 255 - _GREY_REACH)).sum())
    return Labels((grey > 127).astype(np.uint8), doubtful)


def colour_labels(rgb: Uint8, colours: NDArray[np.float32]) -> Labels:
    """The class whose colour is nearest. rgb: (h, w, 3). colours: (K, 3), one per class, background first."""
    distances = np.stack([np.square(rgb - colour).sum(axis=2) for colour in colours])  # (K, h, w), squared
    doubtful = int((distances.min(axis=0) > _COLOUR_REACH**2).sum())
    return Labels(distances.argmin(axis=0).astype(np.uint8), doubtful)
