"""Labelled image folders: `SPLIT/images/NAME.*` with `SPLIT/masks/NAME.*`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, UsageError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
_LOSSY = frozenset({".jpg", ".jpeg"})
Uint8 = NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledImage:
    image: Path
    mask: Path


def labelled_images(split: Path) -> list[LabelledImage]:
    """Every image of a split with its mask, by name. A missing folder or mask raises UsageError."""
    images = image_files(split / "images")
    masks = {path.stem: path for path in image_files(split / "masks")}
    unmatched = [path.name for path in images if path.stem not in masks]
    if unmatched:
        raise UsageError(f"{split / 'masks'}: no mask for {len(unmatched)} of {len(images)} images, first {unmatched[0]}")
    return [LabelledImage(path, masks[path.stem]) for path in images]


def image_files(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise UsageError(f"{folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def read_image(path: Path) -> Uint8:
    """(h, w, 3) RGB."""
    bgr = _read(path, cv2.IMREAD_COLOR)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def read_binary_mask(path: Path) -> Uint8:
    """(h, w) of 0 and 1. Lossless files count everything above 0; JPEG rings around edges, so there it is everything above 127."""
    if path.suffix.lower() in _LOSSY:
        return (_read(path, cv2.IMREAD_GRAYSCALE) > 127).astype(np.uint8)
    levels = _read(path, cv2.IMREAD_UNCHANGED)  # as stored: a conversion to 8-bit grey rounds faint values away
    if levels.ndim == 3:
        levels = levels[..., :3].max(axis=2)  # without the opacity of BGRA
    return (levels > 0).astype(np.uint8)


def _read(path: Path, flags: int) -> Uint8:
    try:
        encoded = np.fromfile(path, np.uint8)
    except OSError as error:
        raise QtsegError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        decoded = cv2.imdecode(encoded, flags) if encoded.size else None
    except cv2.error as error:  # a size beyond its limits
        raise QtsegError(f"{path}: wanted an image, but OpenCV refuses it ({error.err})") from error
    if decoded is None:
        raise QtsegError(f"{path}: wanted an image, but it does not decode ({encoded.size} bytes)")
    return decoded  # type: ignore[return-value]
