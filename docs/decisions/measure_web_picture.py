"""What encoding a frame for the web viewer costs, by how much of it is marked: the figures of 0018."""

from __future__ import annotations

import statistics
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from qtseg_edge.runtime.frames import Frame
from qtseg_edge.runtime.overlay import Overlay
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.segmenter import Segmentation
from qtseg_edge.runtime.web.picture import picture_of

CLIP = Path(__file__).parents[2] / "samples" / "colonoscopy.mp4"
SIZE_WH = (1280, 720)
ROUNDS = 50


def marked(radius: int) -> Segmentation:
    """A disc whose probability falls off at its edge as a network's does: computed at 352 wide and enlarged."""
    y, x = np.mgrid[: SIZE_WH[1], : SIZE_WH[0]]
    distance = np.hypot(x - SIZE_WH[0] / 2, y - SIZE_WH[1] / 2)
    small = cv2.resize((255 / (1 + np.exp((distance - radius) / 12))).astype(np.uint8), (352, 198))
    foreground = cv2.resize(small, SIZE_WH)
    mask = (foreground >= 128).astype(np.uint8)
    return Segmentation(mask, np.where(mask > 0, foreground, 255 - foreground).astype(np.uint8), 0.0, 0.0, 0.0)


def main() -> None:
    with av.open(str(CLIP)) as file:
        rgb = cv2.resize(next(file.decode(video=0)).to_ndarray(format="rgb24"), SIZE_WH).astype(np.uint8)
    frame = Frame(rgb, 0, Fraction(0), CLIP.name, 0.0, 0.0)
    overlay = Overlay(((0, 0, 0), (0, 200, 120)), 0.4)
    print("| marked | ms, median | JPEG kB | PNG kB |\n|---|---|---|---|")
    for radius in (0, 100, 200, 340):
        result = Result(frame, marked(radius), overlay, ("background", "polyp"))
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            picture = picture_of(result, Fraction(1))
            seconds.append(time.perf_counter() - started)
        share = result.area / result.segmentation.mask.size
        print(f"| {share:.0%} | {statistics.median(seconds) * 1e3:.1f} | {len(picture.jpeg) / 1e3:.0f} | {len(picture.levels) / 1e3:.0f} |")


if __name__ == "__main__":
    main()
