"""A live picture without a camera: dark tissue, a red lesion that moves, comes and goes, and the number of the frame."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import UsageError
from qtseg_edge.runtime.frames import Frame, Source, SourceInfo
from qtseg_edge.runtime.sources.live import LIVE_TIME_BASE, LiveClock

_DEFAULT = "640x480@30"
_LEAST_SIDE, _MOST_SIDE, _MOST_RATE = 32, 8192, 240
_LESION_RGB = (205, 45, 40)
_PERIOD_S, _SEEN_S = 8.0, 5.0  # of every 8 s the lesion is there for 5


class PatternSource(Source):
    """size_rate: `WxH@FPS`, each part of which may be left out. One that is not taken in time delays the next; nothing is made up for."""

    def __init__(self, size_rate: str, name: str) -> None:
        width, height, rate = _parsed(size_rate, name)
        self._stop = threading.Event()
        self._background = _tissue(height, width)
        self._lesion, self._lesion_mask = _lesion(max(8, height // 5))
        self.info = SourceInfo(name, rate, LIVE_TIME_BASE, None, live=True, size_hw=(height, width))

    def __iter__(self) -> Iterator[Frame]:
        clock, due, index = LiveClock(), time.perf_counter(), 0
        while not self._stop.wait(max(0.0, due - time.perf_counter())):
            captured_at = time.perf_counter()
            moment = clock.time_of(captured_at)
            rgb = self._drawn(index, float(moment))
            yield Frame(rgb, index, moment, self.info.name, (time.perf_counter() - captured_at) * 1e3, captured_at)
            index += 1
            due = max(due + float(1 / self.info.rate), time.perf_counter())

    def close(self) -> None:
        self._stop.set()

    def _drawn(self, index: int, seconds: float) -> NDArray[np.uint8]:
        rgb = self._background.copy()
        height, width = rgb.shape[:2]
        side = self._lesion.shape[0]
        if seconds % _PERIOD_S < _SEEN_S:
            left = round((width - side) * (0.5 + 0.45 * np.sin(0.7 * seconds)))
            top = round((height - side) * (0.5 + 0.3 * np.cos(0.9 * seconds)))
            cv2.copyTo(self._lesion, self._lesion_mask, rgb[top : top + side, left : left + side])
        scale = height / 480
        text = f"{index:07d}  {seconds:9.2f} s"
        cv2.putText(rgb, text, (round(12 * scale), height - round(14 * scale)), cv2.FONT_HERSHEY_SIMPLEX, 0.8 * scale, (110, 120, 120), 1)
        return rgb


def _parsed(text: str, name: str) -> tuple[int, int, Fraction]:
    """Width, height, frames per second."""
    found = re.fullmatch(r"(?:(\d{1,5})x(\d{1,5}))?(?:@(\d{1,3}(?:\.\d{1,3})?))?", text)
    defaults = _DEFAULT.replace("@", "x").split("x")
    width, height, rate = (given or default for given, default in zip(found.groups(), defaults, strict=True)) if found else ("0",) * 3
    if not (_LEAST_SIDE <= min(int(width), int(height)) <= max(int(width), int(height)) <= _MOST_SIDE and 0 < Fraction(rate) <= _MOST_RATE):
        limits = f"sides {_LEAST_SIDE} to {_MOST_SIDE}, up to {_MOST_RATE} frames per second"
        raise UsageError(f"{name}: wanted testsrc://WIDTHxHEIGHT@FPS ({limits}), as in testsrc://{_DEFAULT}")
    return int(width), int(height), Fraction(rate)


def _tissue(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    folds = 12 * np.sin(9 * x / width + 4 * y / height)
    return np.stack([92 + folds, 62 + 0.5 * folds + 20 * y / height, 58 + 18 * x / width], axis=-1).astype(np.uint8)


def _lesion(side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A patch, and where in it the lesion is."""
    mask = np.zeros((side, side), np.uint8)
    centre = (side // 2, side // 2)
    cv2.ellipse(mask, centre, (side // 2 - 1, side // 3), 25, 0, 360, 255, -1)
    patch = np.full((side, side, 3), _LESION_RGB, np.uint8)
    cv2.circle(patch, (side // 2 - side // 8, side // 2 - side // 8), max(1, side // 12), (235, 130, 120), -1)
    return patch, mask
