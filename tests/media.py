"""Small videos whose frames carry their own number, and ways to look into and to damage what was written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]
_CELL, _BITS = 8, 8  # the number stands in the top row, one 8x8 cell of green per bit
_RED, _GREEN, _BLUE = (230, 20, 20), (20, 220, 20), (20, 20, 230)
H264 = {"preset": "ultrafast"}


def numbered_frames(count: int, size_hw: tuple[int, int] = (48, 64)) -> list[Uint8]:
    """Frames that `number_of` tells apart after lossy coding, each with a red square (what FakeBackend marks) on dark tissue."""
    return [numbered_frame(index, size_hw) for index in range(count)]


def numbered_frame(index: int, size_hw: tuple[int, int] = (48, 64)) -> Uint8:
    height, width = size_hw
    y, x = np.mgrid[:height, :width]
    frame = np.stack([50 + 40 * x / width, 70 + 60 * y / height, 60 + 40 * (x + y) / (width + height)], axis=-1).astype(np.uint8)
    for bit in range(_BITS):
        frame[:_CELL, bit * _CELL : (bit + 1) * _CELL] = (20, 220 if index >> bit & 1 else 20, 60)
    left = 2 * index % (width - 16)
    frame[height - 28 : height - 12, left : left + 16] = _RED
    return frame


def number_of(frame: Uint8) -> int:
    cells = frame[: _CELL - 1, : _BITS * _CELL, 1].reshape(_CELL - 1, _BITS, _CELL)[:, :, 2:-2]
    return sum(1 << bit for bit, level in enumerate(cells.mean(axis=(0, 2))) if level > 120)


def cornered_frame(size_hw: tuple[int, int]) -> Uint8:
    """Grey with a red top left, a green top right and a blue bottom left."""
    frame = np.full((*size_hw, 3), 110, np.uint8)
    frame[:16, :16], frame[:16, -16:], frame[-16:, :16] = _RED, _GREEN, _BLUE
    return frame


def corners_of(frame: Uint8) -> str:
    """Colours of top left, top right, bottom left, bottom right: "rgb." is upright."""
    patches = (frame[4:12, 4:12], frame[4:12, -12:-4], frame[-12:-4, 4:12], frame[-12:-4, -12:-4])
    names = []
    for patch in patches:
        mean = patch.reshape(-1, 3).mean(axis=0)
        names.append("rgb"[int(mean.argmax())] if mean.max() - mean.min() > 100 else ".")
    return "".join(names)


def write_video(
    path: Path,
    frames: Iterable[Uint8],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rate: Fraction | int = 25,
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    rotation: int | None = None,
    pixel_aspect: Fraction | None = None,
    bt709: bool = False,
    sound: bool = False,
) -> Path:
    """times: presentation times in `time_base` units, 0, 1, 2... of the rate when left out. rotation: degrees counter-clockwise."""
    time_base = time_base or 1 / Fraction(rate)
    with av.open(str(path), "w", options=container or {}) as file:
        stream: Any = file.add_stream(codec, rate=rate, options=options or (H264 if codec == "libx264" else {}))
        stream.codec_context.time_base = time_base
        if sound:
            audio = file.add_stream("aac", rate=8000, layout="mono")
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width, stream.pix_fmt = frame.shape[0], frame.shape[1], pix_fmt
                if pixel_aspect:
                    stream.codec_context.sample_aspect_ratio = pixel_aspect
            picture = av.VideoFrame.from_ndarray(frame, format="gray" if frame.ndim == 2 else "rgb24")
            if bt709:
                picture = picture.reformat(format=pix_fmt, dst_colorspace="ITU709")
            picture.pts, picture.time_base = index if times is None else times[index], time_base
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
        if sound:
            file.mux(_silence(audio))
    return path


def write_sound(path: Path, cover: Uint8 | None = None) -> Path:
    with av.open(str(path), "w") as file:
        sound = file.add_stream("aac", rate=8000, layout="mono")
        if cover is not None:
            image: Any = file.add_stream("mjpeg", rate=1)
            image.height, image.width, image.pix_fmt, image.disposition = *cover.shape[:2], "yuvj420p", Disposition.attached_pic
        file.mux(_silence(sound))
        if cover is not None:
            file.mux(image.encode(av.VideoFrame.from_ndarray(cover, format="rgb24")) + image.encode(None))
    return path


def _silence(stream: Any, samples: int = 8192) -> list[Any]:
    packets = []
    for start in range(0, samples, 1024):
        chunk = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        chunk.sample_rate, chunk.pts = 8000, start
        packets += stream.encode(chunk)
    return packets + stream.encode(None)


def decoded(path: Path) -> list[Uint8]:
    with av.open(str(path.absolute())) as file:
        return [picture.to_ndarray(format="rgb24") for picture in file.decode(video=0)]


def times_of(path: Path) -> list[Fraction]:
    """Seconds of every picture, from 0."""
    with av.open(str(path.absolute())) as file:
        stamps = [picture.pts * picture.time_base for picture in file.decode(video=0)]  # type: ignore[operator]
    return [stamp - stamps[0] for stamp in stamps]


def blanked(path: Path, start: float, end: float) -> Path:
    """Damage a file: its bytes between two shares of its length become zeros, as on a bad sector."""
    data = bytearray(path.read_bytes())
    first, last = int(len(data) * start), int(len(data) * end)
    data[first:last] = bytes(last - first)
    path.write_bytes(data)
    return path


def require_forbidden(path: Path, access: int) -> None:
    """Skip the test where this user may do everything, as root may."""
    if os.access(path, access):
        pytest.skip("this user may read and write whatever the permissions say")


def cut_off(path: Path, share: float) -> Path:
    """Damage a file: only the first `share` of its bytes stay."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path
