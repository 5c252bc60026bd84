"""Masks as COCO run lengths."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def run_lengths(inside: NDArray[np.uint8]) -> dict[str, Any]:
    """inside: (h, w) of 0 and not 0 -> `{"size": [h, w], "counts": [...]}`: column by column, the pixels outside, inside, outside..."""
    height, width = inside.shape
    x, _, box_width, _ = cv2.boundingRect(inside)
    boundaries = np.zeros(0, np.int64)
    if box_width:
        columns = cv2.transpose(np.ascontiguousarray(inside[:, x : x + box_width])).ravel() != 0
        framed = np.zeros(columns.size + 2, bool)
        framed[1:-1] = columns
        boundaries = np.flatnonzero(framed[1:] != framed[:-1]) + x * height
    counts = np.diff(boundaries, prepend=0, append=height * width)
    if box_width and counts[-1] == 0:
        counts = counts[:-1]
    return {"size": [height, width], "counts": counts.tolist()}
