"""How much damage in H.264 FFmpeg finds on this processor: `python docs/decisions/measure_damage.py VIDEO.mp4` (0028).

VIDEO.mp4 is made where it is not there. On arm64, with the root that `make test-arm64` leaves and binfmt_misc registered:
`cp VIDEO.mp4 docs/decisions/measure_damage.py .arm64/root/opt/ && chroot .arm64/root python3 /opt/measure_damage.py /opt/VIDEO.mp4`.
"""

from __future__ import annotations

import io
import platform
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np

SHARES = (0.3, 0.9)  # of a picture's bytes stay; zeros follow


def make(path: Path) -> None:
    """100 frames of texture that moves, with B-frames and CABAC."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.media import numbered_frame, write_video

    texture = np.random.default_rng(3).integers(0, 60, (96, 328, 3), dtype=np.uint8)
    frames = [numbered_frame(n, (96, 128)) // 2 + texture[:, 2 * n : 2 * n + 128] for n in range(100)]
    write_video(path, frames, options={"preset": "fast", "bf": "3", "g": "50"})


def read(data: bytes) -> tuple[list[Any], bool]:
    """The pictures, as `VideoReader` gets them, and whether an error ended them."""
    pictures: list[Any] = []
    try:
        with av.open(io.BytesIO(data)) as file:
            stream = file.streams.video[0]
            stream.codec_context.options = {"err_detect": "explode"}
            for picture in file.decode(stream):
                if picture.is_corrupt:
                    return pictures, True
                pictures.append(picture.to_ndarray())
    except av.error.FFmpegError:
        return pictures, True
    return pictures, False


def main(path: Path) -> None:
    if not path.exists():
        make(path)
    whole = path.read_bytes()
    intact, _ = read(whole)
    with av.open(str(path)) as file:
        packets = [(packet.size, packet.pos) for packet in file.demux(video=0) if packet.size and not packet.is_keyframe]
    ended = made_up = 0
    for size, position in packets:
        for share in SHARES:
            start, end = position + int(size * share), position + size
            pictures, failed = read(whole[:start] + bytes(end - start) + whole[end:])
            ended += failed
            made_up += any(not np.array_equal(got, wanted) for got, wanted in zip(pictures, intact, strict=False))
    count = len(packets) * len(SHARES)
    print(f"{platform.machine()}: {count} damaged files, {ended} ended with an error, {made_up} gave pictures that the decoder made up")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
