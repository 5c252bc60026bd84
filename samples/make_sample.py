"""Make `colonoscopy.mp4` and one ground-truth mask per frame out of still frames.

    python samples/make_sample.py --data KVASIR-SEG -o samples

Units of a View: `cx`, `cy` are fractions of the source frame; zoom 1 shows its full width; `angle` turns the camera clockwise, in degrees.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import av
import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from qtseg_edge.data import read_binary_mask, read_image
from qtseg_edge.errors import QtsegError
from qtseg_edge.files import replacing

Uint8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    cx: float
    cy: float
    zoom: float
    angle: float


@dataclass(frozen=True)
class Shot:
    image: str
    seconds: float
    start: View
    end: View


# These sources carry no burnt-in text: the black box at the lower left of three of them is empty.
# The views without a polyp are narrow, to keep it out of sight.
SHOTS = (
    Shot("validation_87.jpg", 1.0, View(0.752, 0.465, 2.13, -1), View(0.757, 0.51, 2.12, 1)),  # no polyp
    Shot("validation_87.jpg", 1.8, View(0.757, 0.51, 2.12, 1), View(0.50, 0.49, 1.12, -2)),
    Shot("validation_40.jpg", 1.4, View(0.52, 0.50, 1.13, 2), View(0.60, 0.55, 1.35, 0)),
    Shot("validation_55.jpg", 1.0, View(0.258, 0.45, 2.22, 1), View(0.264, 0.48, 2.18, -1)),  # no polyp
    Shot("validation_80.jpg", 2.0, View(0.50, 0.49, 1.12, -2), View(0.765, 0.49, 2.25, 1)),
    Shot("validation_80.jpg", 1.0, View(0.765, 0.49, 2.25, 1), View(0.765, 0.52, 2.35, -1)),  # no polyp
    Shot("validation_44.jpg", 1.8, View(0.50, 0.50, 1.12, 2), View(0.48, 0.49, 1.25, -1)),
)
WIDTH, HEIGHT, FPS = 640, 512, 25
SIDE = 352
# The dataset squared its frames; they were this much wider than high.
PIXEL_ASPECT = 1.2
FADE_FRAMES = 4
SEED = 20


def main(
    data: Annotated[Path, typer.Option(help="Kvasir-SEG folder with val/images and val/masks.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the clip and its masks.")],
) -> None:
    """Write colonoscopy.mp4 and colonoscopy-masks/."""
    masks = output / "colonoscopy-masks"
    masks.mkdir(parents=True, exist_ok=True)
    with replacing(output / "colonoscopy.mp4") as path, av.open(path, "w", options={"movflags": "faststart"}) as container:
        # One thread: x264 divides the work, and so the bits, by the number of threads.
        stream = container.add_stream("libx264", FPS, options={"preset": "slow", "crf": "18", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, (frame_rgb, mask_u8) in enumerate(render(data / "val")):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_rgb, format="rgb24")))
            if not cv2.imwrite(str(masks / f"{index:06d}.png"), mask_u8, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
                raise QtsegError(f"{masks}: wanted to write {index:06d}.png, but could not")
        container.mux(stream.encode(None))


def render(split: Path) -> Iterator[tuple[Uint8, Uint8]]:
    """Every frame (h, w, 3) RGB with its mask (h, w) of 0 and 255."""
    noise = np.random.default_rng(SEED)
    frame_counts = [round(shot.seconds * FPS) for shot in SHOTS]
    first_frames = list(itertools.accumulate(frame_counts[:-1], initial=0))
    cuts = [first_frames[n] for n in range(1, len(SHOTS)) if SHOTS[n].image != SHOTS[n - 1].image]
    for shot, first, count in zip(SHOTS, first_frames, frame_counts, strict=True):
        image_rgb, mask = read_image(split / "images" / shot.image), read_binary_mask(split / "masks" / shot.image)
        for index in range(first, first + count):
            matrix = source_from_frame(handheld(between(shot, (index - first) / count), index / FPS))
            frame = warp(image_rgb, matrix, cv2.INTER_CUBIC)
            # Linear between 0 and 1, cut at 0.5: the outline lies where the frame's own pixels were interpolated to.
            mask_u8 = np.where(warp(mask, matrix, cv2.INTER_LINEAR) > 0.5, 255, 0).astype(np.uint8)
            yield develop(frame, index, cuts, noise), mask_u8


def between(shot: Shot, progress: float) -> View:
    eased = progress * progress * (3 - 2 * progress)
    start, end = shot.start, shot.end
    return View(
        start.cx + (end.cx - start.cx) * eased,
        start.cy + (end.cy - start.cy) * eased,
        start.zoom + (end.zoom - start.zoom) * eased,
        start.angle + (end.angle - start.angle) * eased,
    )


def handheld(view: View, seconds: float) -> View:
    """The same view from a hand that is never quite still."""
    return View(
        view.cx + 0.003 * math.sin(7.1 * seconds),
        view.cy + 0.004 * math.sin(5.3 * seconds + 1),
        view.zoom,
        view.angle + 0.4 * math.sin(4.3 * seconds + 2),
    )


def source_from_frame(view: View) -> NDArray[np.float64]:
    """(2, 3) affine matrix from frame pixels to source pixels. A view that leaves the source raises ValueError."""
    scale = SIDE * PIXEL_ASPECT / (WIDTH * view.zoom)
    cosine, sine = scale * math.cos(math.radians(view.angle)), scale * math.sin(math.radians(view.angle))
    linear = np.array([[cosine / PIXEL_ASPECT, -sine / PIXEL_ASPECT], [sine, cosine]])
    centre = np.array([view.cx * SIDE - 0.5, view.cy * SIDE - 0.5])
    matrix = np.column_stack([linear, centre - linear @ [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]])
    corners = matrix @ np.array([[0, WIDTH - 1, 0, WIDTH - 1], [0, 0, HEIGHT - 1, HEIGHT - 1], [1, 1, 1, 1]])  # (2, 4)
    if corners.min() < 0 or corners.max() > SIDE - 1:
        raise ValueError(f"{view}: wanted corners within 0 and {SIDE - 1}, got {corners.round(1).tolist()}; zoom in or move it")
    return matrix


def warp(image: Uint8, matrix: NDArray[np.float64], interpolation: int) -> Float32:
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image.astype(np.float32), matrix, (WIDTH, HEIGHT), flags=flags)  # type: ignore[return-value]


def develop(frame: Float32, index: int, cuts: list[int], noise: np.random.Generator) -> Uint8:
    """Light that wanders, a dark sideways blur around a cut, and sensor noise."""
    gain = 1 + 0.08 * math.sin(2.2 * index / FPS)
    depth = 1 - min(abs(index + 0.5 - cut) for cut in cuts) / FADE_FRAMES
    if depth > 0:
        gain *= 1 - 0.75 * depth
        frame = cv2.blur(frame, (1 + 2 * round(15 * depth), 1))  # type: ignore[assignment]
    grain = noise.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32)
    return np.asarray(np.clip(frame * gain + 2 * grain, 0, 255), dtype=np.uint8)


if __name__ == "__main__":
    typer.run(main)
