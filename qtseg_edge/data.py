"""Labelled image folders: `SPLIT/images/NAME.*` with `SPLIT/masks/NAME.*`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, UsageError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
_LOSSY = frozenset({".jpg", ".jpeg"})
_EXIF_WITHIN = 1 << 18  # bytes: it stands before the pixels
Uint8 = NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledImage:
    image: Path
    mask: Path


def labelled_images(split: Path) -> list[LabelledImage]:
    """Every image of a split with the mask of the same stem, by name. A missing folder or mask, or a stem used twice, raises UsageError."""
    images = image_files(split / "images")
    masks = by_stem(image_files(split / "masks"))
    by_stem(images)
    unmatched = [path.name for path in images if path.stem not in masks]
    if unmatched:
        raise UsageError(f"{split / 'masks'}: no mask for {len(unmatched)} of {len(images)} images, first {unmatched[0]}")
    return [LabelledImage(path, masks[path.stem]) for path in images]


def by_stem(paths: list[Path]) -> dict[str, Path]:
    """Raises UsageError where two files differ by their suffix only: which of them is meant cannot be known."""
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(path.stem, path)
        if other != path:
            raise UsageError(f"{path.parent}: {other.name} and {path.name} have the same stem; keep one of them")
    return found


def image_files(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise UsageError(f"{folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def read_image(path: Path) -> Uint8:
    """(h, w, 3) RGB, turned as its Exif tag says; opacity is dropped, 16 bits become 8."""
    bgr = _read(path, cv2.IMREAD_COLOR)
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def read_labelled_image(path: Path) -> Uint8:
    """`read_image` of one that has a mask.

    QtsegError for files of 16 bits (which part of their range is meant only their owner knows) and for those that an Exif tag turns.
    """
    bgr = _read(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if bgr.dtype != np.uint8:
        raise QtsegError(f"{path}: wanted 8 bits per channel, got {bgr.dtype}; convert it, choosing the window of values to keep")
    if _is_turned(path, bgr):
        raise QtsegError(f"{path}: its Exif tag turns it, and no tag turns its mask; apply the tag to the pixels (mogrify -auto-orient)")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def _is_turned(path: Path, as_shown: Uint8) -> bool:
    with path.open("rb") as file:
        head = file.read(_EXIF_WITHIN)
    if b"Exif" not in head and b"eXIf" not in head:
        return False
    as_stored = _read(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    return as_stored.shape != as_shown.shape or not np.array_equal(as_stored, as_shown)


def read_mask(path: Path, classes: int) -> Uint8:
    """(h, w) of class indices below `classes`, which counts the background.

    Two classes: see `read_binary_mask`. More: the file holds the indices themselves, one lossless channel (or three equal
    ones); anything else raises QtsegError.
    """
    if classes == 2:
        return read_binary_mask(path)
    if path.suffix.lower() in _LOSSY:
        raise QtsegError(f"{path}: JPEG does not keep class indices; wanted a PNG with values below {classes}")
    levels = _read(path, cv2.IMREAD_UNCHANGED)
    if levels.ndim == 3:
        if (levels[..., :3] != levels[..., :1]).any():
            raise QtsegError(f"{path}: wanted class indices below {classes}, got colours; convert them, or see: qtseg-edge prepare --help")
        levels = levels[..., 0]
    if levels.max() >= classes:
        raise QtsegError(f"{path}: wanted class indices below {classes}, got {levels.max()}")
    return levels.astype(np.uint8)


def read_binary_mask(path: Path) -> Uint8:
    """(h, w) of 0 and 1. Lossless files count everything above 0; JPEG rings around edges, so there it is everything above 127.

    A lossless file of more than two levels raises QtsegError: soft edges and class numbers look alike, only their owner knows.
    """
    if path.suffix.lower() in _LOSSY:
        return (_read(path, cv2.IMREAD_GRAYSCALE) > 127).astype(np.uint8)
    levels = _read(path, cv2.IMREAD_UNCHANGED)  # as stored: a conversion to 8-bit grey rounds faint values away
    if levels.ndim == 3:
        levels = levels[..., :3].max(axis=2)  # without the opacity of BGRA
    found = np.unique(levels)
    if len(found) > 2:
        raise QtsegError(f"{path}: wanted a mask of two levels, got {len(found)} from {found[0]} to {found[-1]}; cut it where the edge is")
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


def pixels_sha256(pixels: Uint8) -> str:
    """Of shape and values: equal for the same picture in two files."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
