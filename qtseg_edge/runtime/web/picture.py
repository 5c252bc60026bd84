"""A result as browsers take it: the picture without anything drawn on it, and where its mask is."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.regions import contours_of
from qtseg_edge.runtime.results import Result

Uint8 = NDArray[np.uint8]
_WIDEST = 1280
_THUMBNAIL_WIDTH = 160
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 85]
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 1]


@dataclass(frozen=True)
class Picture:
    """size_wh: of the picture, pixels square. jpeg: the frame. levels: PNG of the part `box` (x, y, width, height) of the picture, outside
    of which nothing is marked; None where nothing is.

    Of two classes `levels` is grey: the foreground probability x 255, 0 where the mask has none. Of more it is RGB: probability x 255 of
    the pixel's class, its index, 0. A marked pixel is never 0.
    """

    size_wh: tuple[int, int]
    jpeg: bytes
    box: tuple[int, int, int, int] | None
    levels: bytes


def picture_of(result: Result, pixel_aspect: Fraction) -> Picture:
    """At most 1280 wide. Every pixel of `levels` is one of the mask's, so that nothing beside the mask can be coloured."""
    size_wh = _size_wh(result.segmentation.mask, pixel_aspect, _WIDEST)
    jpeg = _encoded(".jpg", cv2.cvtColor(_resized(result.frame.rgb, size_wh, cv2.INTER_AREA), cv2.COLOR_RGB2BGR), _JPEG)
    mask = _resized(result.segmentation.mask, size_wh, cv2.INTER_NEAREST)
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return Picture(size_wh, jpeg, None, b"")
    window = (slice(y, y + height), slice(x, x + width))
    marked = mask[window]
    confidence = _resized(result.segmentation.confidence, size_wh, cv2.INTER_NEAREST)[window]
    levels = np.where(marked > 0, np.maximum(confidence, 1), 0).astype(np.uint8)
    if len(result.classes) > 2:
        levels = np.dstack([np.zeros_like(levels), marked, levels])  # OpenCV writes BGR
    return Picture(size_wh, jpeg, (x, y, width, height), _encoded(".png", levels, _PNG))


def thumbnail(result: Result, colours_rgb: tuple[tuple[int, int, int], ...], pixel_aspect: Fraction) -> bytes:
    """JPEG, 160 wide, with the outlines of the mask."""
    size_wh = _size_wh(result.segmentation.mask, pixel_aspect, _THUMBNAIL_WIDTH)
    small = _resized(result.frame.rgb, size_wh, cv2.INTER_AREA).copy()
    mask = _resized(result.segmentation.mask, size_wh, cv2.INTER_NEAREST)
    for class_index in range(1, len(colours_rgb)):
        cv2.drawContours(small, contours_of(mask, class_index), -1, colours_rgb[class_index], 1, cv2.LINE_AA)
    return _encoded(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), _JPEG)


def _size_wh(mask: Uint8, pixel_aspect: Fraction, widest: int) -> tuple[int, int]:
    height, width = mask.shape
    shown = width * float(pixel_aspect)
    scale = min(1.0, widest / shown)
    return max(1, round(shown * scale)), max(1, round(height * scale))


def _resized(image: Uint8, size_wh: tuple[int, int], how: int) -> Uint8:
    if (image.shape[1], image.shape[0]) == size_wh:
        return image
    return cv2.resize(image, size_wh, interpolation=how).astype(np.uint8, copy=False)


def _encoded(suffix: str, image: cv2.typing.MatLike, options: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, image, options)
    if not done:
        raise QtsegError(f"web://: a picture of {image.shape[1]}x{image.shape[0]} does not encode")
    return data.tobytes()
