"""Raw image files -> pixels, and what is written of them."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import MissingError, QtsegError

Uint8 = NDArray[np.uint8]
LOSSY = frozenset({".jpg", ".jpeg"})
_JPEG, _PNG, _GIF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", (b"GIF87a", b"GIF89a")
_TIFF_ORDER = {b"II*\0": "<", b"MM\0*": ">"}
_PHOTOMETRIC, _SAMPLES_PER_PIXEL = 262, 277
_GREY_PHOTOMETRICS, _RGB_PHOTOMETRIC = (0, 1), 2


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise QtsegError(f"{path}: cannot be read ({error.strerror})") from error


def image_pixels(path: Path, data: bytes) -> Uint8:
    """(h, w, 3) RGB as training will see it. Raises QtsegError for what does not decode or has more than 8 bits per channel."""
    rgb = _decoded(path, data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if rgb.dtype != np.uint8:
        raise QtsegError(f"{path}: wanted 8 bits per channel, got {rgb.dtype}")
    return rgb


def mask_pixels(path: Path, data: bytes) -> NDArray[Any]:
    """(h, w), or (h, w, 3) RGB without opacity, as stored: 8 or 16 bits; 1-bit files give 0 and 255."""
    return _decoded(path, data, cv2.IMREAD_UNCHANGED)


def kept_as_it_is(path: Path, data: bytes) -> bool:
    """Whether the file may be copied: a JPEG, or a PNG of 8-bit grey or RGB. Any other kind is decoded and written as PNG."""
    if path.suffix.lower() in LOSSY:
        return data.startswith(_JPEG)
    return path.suffix.lower() == ".png" and data.startswith(_PNG) and data[24:26] in (b"\x08\x00", b"\x08\x02")  # depth, colour type


def png_bytes(pixels: Uint8) -> bytes:
    """Grey (h, w) or RGB (h, w, 3)."""
    stored = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    return cv2.imencode(".png", stored)[1].tobytes()


def _decoded(path: Path, data: bytes, flags: int) -> NDArray[Any]:
    if data.startswith(_GIF):
        return _decoded_gif(path, data)
    encoded = np.frombuffer(with_true_colours(data), np.uint8)
    try:
        pixels = cv2.imdecode(encoded, flags) if data else None
    except cv2.error as error:  # a size beyond its limits
        raise QtsegError(f"{path}: wanted an image, but OpenCV refuses it ({error.err})") from error
    if pixels is None:
        raise QtsegError(f"{path}: wanted an image, but it does not decode ({len(data)} bytes)")
    return pixels[..., [2, 1, 0]] if pixels.ndim == 3 else pixels


def _decoded_gif(path: Path, data: bytes) -> Uint8:
    """(h, w, 3) RGB. By Pillow: not every OpenCV reads GIF."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise MissingError(f"{path}: Pillow, which reads GIF, is not installed; get it with: pip install 'qtseg-edge[prepare]'") from error
    try:
        with Image.open(BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow tells of damaged files in these ways
        raise QtsegError(f"{path}: wanted an image, but it does not decode ({len(data)} bytes)") from error


def with_true_colours(data: bytes) -> bytes:
    """A TIFF of three or more samples per pixel that calls itself grey, called RGB; any other file as it is.

    CVC-ClinicDB's TIFFs are such. OpenCV believes the tag and returns the first sample as grey; Pillow refuses the file.
    """
    order = _TIFF_ORDER.get(data[:4])
    if order is None:
        return data
    try:
        tags = _first_directory(data, order)
    except struct.error:
        return data  # cut short: the decoder will say so
    photometric, samples = tags.get(_PHOTOMETRIC), tags.get(_SAMPLES_PER_PIXEL)
    if photometric is None or samples is None or samples[0] < 3 or photometric[0] not in _GREY_PHOTOMETRICS:
        return data
    _, offset = photometric
    return data[:offset] + struct.pack(f"{order}H", _RGB_PHOTOMETRIC) + data[offset + 2 :]


def _first_directory(data: bytes, order: str) -> dict[int, tuple[int, int]]:
    """Tag -> its value read as one 16-bit number, and where that lies. Entries are 12 bytes: tag, type, count, value."""
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, start)
    offsets = [start + 2 + 12 * index for index in range(entries)]
    tags = [struct.unpack_from(f"{order}H", data, offset)[0] for offset in offsets]
    return {tag: (struct.unpack_from(f"{order}H", data, offset + 8)[0], offset + 8) for tag, offset in zip(tags, offsets, strict=True)}
