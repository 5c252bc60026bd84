"""A sequence with a mask per frame: a video, or a folder of frames, beside a folder of masks."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.data import by_stem, image_files, read_labelled_image, read_mask
from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime.frames import Frame
from qtseg_edge.runtime.sources import open_source

Uint8 = NDArray[np.uint8]


class LabelledSequence:
    """frames: a video or a folder of images. masks: a folder. fps: frames per second of a folder; a video tells its own times.

    Masks of a video are found by the number that ends their name, from 0 or 1 and without gaps; those of a folder by the frame's name.
    Raises UsageError where a frame has no mask, and QtsegError where the video does not open. How many frames a video has, and whether
    there are as many masks, only reading it tells: what a file announces is an estimate where its frames are not equally long.
    """

    def __init__(self, frames: Path, masks: Path, fps: float | None = None) -> None:
        self.name = str(frames)
        self._masks_folder = masks
        if frames.is_dir():
            self._images: list[Path] | None = natural_order(image_files(frames))
            self._masks = _masks_by_name(self._images, masks)
            self.rate = _rate_of_folder(frames, fps)
        else:
            if not frames.is_file():
                raise UsageError(f"{frames}: no such file or folder; wanted a video or a folder of frames")
            self._images = None
            self._masks = _masks_by_number(masks)
            with open_source(self.name) as source:
                if source.info.images:
                    raise UsageError(f"{frames}: wanted a video or a folder of frames, got a single image")
                self.rate = source.info.rate

    def __len__(self) -> int:
        return len(self._masks)

    def pairs(self, classes: int) -> Iterator[tuple[Frame, Uint8]]:
        """Every frame with its class indices (h, w), below `classes`. Raises QtsegError at the frame where they turn out not to fit,
        UsageError where there are more frames than masks, or fewer.
        """
        count = 0
        for frame in self._frames():
            if frame.index >= len(self._masks):
                raise self._uneven(f"more than {len(self._masks)}")
            path = self._masks[frame.index]
            label = read_mask(path, classes)
            if label.shape != frame.rgb.shape[:2]:
                (height, width), (frame_h, frame_w) = label.shape, frame.rgb.shape[:2]
                raise QtsegError(f"{path}: mask of {width}x{height} for a frame of {frame_w}x{frame_h}")
            yield frame, label
            count += 1
        if count < len(self._masks):
            raise self._uneven(str(count))

    def _frames(self) -> Iterator[Frame]:
        if self._images is None:
            with open_source(self.name) as source:
                yield from source
            return
        for index, path in enumerate(self._images):
            started = time.perf_counter()
            rgb = read_labelled_image(path)
            yield Frame(rgb, index, index / self.rate, self.name, (time.perf_counter() - started) * 1e3, started)

    def _uneven(self, frames: str) -> UsageError:
        return UsageError(
            f"{self.name}: has {frames} frames, {self._masks_folder} has {len(self._masks)} masks; "
            "every frame needs one, an empty one where there is nothing"
        )


def natural_order(paths: list[Path]) -> list[Path]:
    """By name, numbers in it by their value: frame 2 before frame 10."""

    def parts(path: Path) -> list[int | str]:
        return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"([0-9]+)", path.stem))]

    return sorted(paths, key=parts)


def _masks_by_name(images: list[Path], folder: Path) -> list[Path]:
    masks = by_stem(image_files(folder))
    by_stem(images)
    missing = [path.name for path in images if path.stem not in masks]
    if missing:
        raise UsageError(
            f"{folder}: no mask for {len(missing)} of {len(images)} frames, first {missing[0]}; "
            "every frame needs one, an empty one where there is nothing"
        )
    return [masks[path.stem] for path in images]


def _masks_by_number(folder: Path) -> list[Path]:
    by_number: dict[int, Path] = {}
    for path in image_files(folder):
        found = re.search(r"[0-9]+$", path.stem)
        if found is None:
            raise UsageError(f"{path}: wanted a name that ends in the number of its frame, such as 000012.png")
        other = by_number.setdefault(int(found[0]), path)
        if other != path:
            raise UsageError(f"{folder}: {other.name} and {path.name} are for the same frame; keep one of them")
    numbers = sorted(by_number)
    if numbers[0] > 1:
        raise UsageError(
            f"{folder}: the first mask is number {numbers[0]}, wanted 0 or 1: every frame needs one, empty where there is nothing"
        )
    gap = next((before + 1 for before, after in pairwise(numbers) if after > before + 1), None)
    if gap is not None:
        raise UsageError(f"{folder}: no mask number {gap}; every frame needs one, an empty one where there is nothing")
    return [by_number[number] for number in numbers]


def _rate_of_folder(frames: Path, fps: float | None) -> Fraction:
    if fps is None:
        raise UsageError(f"{frames}: a folder of frames tells no time; give its frames per second, such as --fps 25")
    if not 0.01 <= fps <= 1000:
        raise UsageError(f"--fps: wanted 0.01 to 1000 frames per second, got {fps:g}")
    return Fraction(fps).limit_denominator(1001)
