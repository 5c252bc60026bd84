"""Letterbox geometry: the one place where frames are resized, for training, calibration, evaluation and the runtime.

A frame is scaled to fit, area-averaged, placed at the top left and padded with zeros at the bottom and right. For a square input
this is the authors' contract (longest side = S, the other `int(side * S / longest)`), but that a large frame is first halved
(docs/decisions/0019-pipeline.md). Labels take the nearest pixel centre: OpenCV's plain
`INTER_NEAREST` takes the corner of each cell, half a pixel beside the area average of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]
_HALVED_FROM = 3.0  # pixels of a frame to one of the input, along its shorter way


@dataclass(frozen=True)
class Letterbox:
    """Maps frames of `source_hw` pixels into a model input of `size_hw` pixels and results back."""

    source_hw: tuple[int, int]
    size_hw: tuple[int, int]

    @property
    def content_hw(self) -> tuple[int, int]:
        """The part of the input, from its top left, that shows the frame."""
        (source_h, source_w), (height, width) = self.source_hw, self.size_hw
        if source_h * width >= source_w * height:
            return height, max(1, source_w * height // source_h)
        return max(1, source_h * width // source_w), width

    def frame(self, frame: Uint8, out: Uint8 | None = None) -> Uint8:
        """(h, w, C) of `source_hw` -> (H, W, C). `out` is filled and returned where given; its padding must already be zero."""
        if frame.shape[:2] != self.source_hw:
            raise ValueError(f"letterbox: wanted a frame of {self.source_hw}, got {frame.shape[:2]}")
        content_h, content_w = self.content_hw
        if out is None:
            out = np.zeros((*self.size_hw, *frame.shape[2:]), np.uint8)
        # cv2 drops a last axis of one, so the content is given the shape of its place.
        content = _averaged(frame, (content_h, content_w))
        out[:content_h, :content_w] = content.reshape(content_h, content_w, *frame.shape[2:])
        return out

    def mask(self, mask: Uint8) -> Uint8:
        """Class indices (h, w) of `source_hw` -> (H, W), nearest, padding 0."""
        content_h, content_w = self.content_hw
        out = np.zeros(self.size_hw, np.uint8)
        out[:content_h, :content_w] = _resized(mask, (content_h, content_w), cv2.INTER_NEAREST_EXACT)
        return out

    def labels_to_source(self, mask: Uint8) -> Uint8:
        """Class indices (H, W) -> (h, w) of `source_hw`: padding cropped away, nearest."""
        content_h, content_w = self.content_hw
        return _resized(mask[:content_h, :content_w], self.source_hw, cv2.INTER_NEAREST_EXACT)

    def levels_to_source(self, levels: Uint8) -> Uint8:
        """A continuous map (H, W), such as probability x 255 -> (h, w) of `source_hw`: padding cropped away, bilinear."""
        content_h, content_w = self.content_hw
        return _resized(levels[:content_h, :content_w], self.source_hw, cv2.INTER_LINEAR)


def _averaged(image: Uint8, size_hw: tuple[int, int]) -> Uint8:
    """Averaged over the area of each pixel of `size_hw`: whole 2x2 pixels first, which OpenCV vectorises, unlike broken ones."""
    while _is_better_halved(image.shape[0], image.shape[1], *size_hw):
        image = _resized(image, (image.shape[0] // 2, image.shape[1] // 2), cv2.INTER_AREA)
    return _resized(image, size_hw, cv2.INTER_AREA)


def _is_better_halved(source_h: int, source_w: int, height: int, width: int) -> bool:
    is_whole = source_h % height == source_w % width == 0
    return not is_whole and source_h % 2 == source_w % 2 == 0 and min(source_h / height, source_w / width) >= _HALVED_FROM


def _resized(image: Uint8, size_hw: tuple[int, int], interpolation: int) -> Uint8:
    if image.shape[:2] == size_hw:
        return image
    return cv2.resize(image, (size_hw[1], size_hw[0]), interpolation=interpolation)  # type: ignore[return-value]
