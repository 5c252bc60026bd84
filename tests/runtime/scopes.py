"""Pictures as an endoscope's processor sends them: real tissue in a mask, on a black that is not quite black, with text beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]
Box = tuple[int, int, int, int]
FRAMES = sorted((Path(__file__).parents[2] / "qtseg_edge" / "assets" / "frames").glob("*.jpg"))
FRAME_HW = (360, 640)
TEXT = ("12/05/2016", "CVP: 2", "D.O.B.", "Sex:   Age:", "10:22:31")


@lru_cache
def tissue(number: int) -> Uint8:
    """Without a border, (512, 640, 3) RGB."""
    return cv2.cvtColor(cv2.imread(str(FRAMES[number % len(FRAMES)])), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


@dataclass(frozen=True)
class Scope:
    """shape: circle, octagon or rounded. centre: x and y, radius: half its height (and its width by `wide`); of the frame's height.

    level: of black. noise: its standard deviation. light: by which the tissue is multiplied. text: lines of it. inset: a small picture.
    """

    shape: str = "circle"
    centre: tuple[float, float] = (0.95, 0.5)
    radius: float = 0.45
    wide: float = 1.0
    level: int = 0
    noise: float = 2.0
    light: float = 1.0
    text: int = 3
    inset: bool = False
    quality: int = 80
    frame_hw: tuple[int, int] = FRAME_HW
    tissue: int = field(default=0)

    @property
    def inside(self) -> Uint8:
        """(h, w) of 0 and 1."""
        height, width = self.frame_hw
        inside = np.zeros((height, width), np.uint8)
        x, y, b = round(self.centre[0] * height), round(self.centre[1] * height), round(self.radius * height)
        a = round(b * self.wide)
        if self.shape == "circle":
            cv2.ellipse(inside, (x, y), (a, b), 0, 0, 360, 1, cv2.FILLED)
        elif self.shape == "octagon":
            corners = [(0.6, 1), (1, 0.6), (1, -0.6), (0.6, -1), (-0.6, -1), (-1, -0.6), (-1, 0.6), (-0.6, 1)]
            cv2.fillPoly(inside, [np.array([(round(x + a * u), round(y + b * v)) for u, v in corners], np.int32)], 1)
        else:
            radius = b // 4
            cv2.rectangle(inside, (x - a + radius, y - b + radius), (x + a - radius, y + b - radius), 1, cv2.FILLED)
            grown = cv2.dilate(inside, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))
            inside = np.asarray(grown, np.uint8)
        return inside

    @property
    def box(self) -> Box:
        x, y, w, h = cv2.boundingRect(self.inside)
        return x, y, w, h

    def picture(self, shown: Uint8 | None = None) -> Uint8:
        """RGB (h, w, 3). shown: instead of tissue, of the size of `box`."""
        x, y, w, h = self.box
        inside = self.inside[y : y + h, x : x + w, None]
        content = cv2.resize(tissue(self.tissue), (w, h), interpolation=cv2.INTER_AREA) if shown is None else shown
        lit = np.clip(content.astype(np.float32) * self.light, self.level, 255).astype(np.uint8)
        frame = np.full((*self.frame_hw, 3), self.level, np.uint8)
        frame[y : y + h, x : x + w] = np.where(inside > 0, lit, self.level)
        self._write(frame)
        noise = np.random.default_rng(0).normal(0, self.noise, frame.shape) if self.noise else 0
        noisy = np.clip(cv2.GaussianBlur(frame, (0, 0), 0.7) + noise, 0, 255).astype(np.uint8)
        encoded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
        return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)

    def _write(self, frame: Uint8) -> None:
        height, width = self.frame_hw
        for line in range(self.text):
            at = (width // 50, round(height * (0.15 + 0.13 * line)))
            cv2.putText(frame, TEXT[line % len(TEXT)], at, cv2.FONT_HERSHEY_SIMPLEX, height / 900, (235, 235, 235), 1, cv2.LINE_AA)
        if self.inset:
            side = height // 6
            frame[-side - 4 : -4, 4 : side + 4] = cv2.resize(tissue(self.tissue + 1), (side, side), interpolation=cv2.INTER_AREA)


def iou(one: Box, other: Box) -> float:
    (x, y, w, h), (ox, oy, ow, oh) = one, other
    common = max(0, min(x + w, ox + ow) - max(x, ox)) * max(0, min(y + h, oy + oh) - max(y, oy))
    return common / (w * h + ow * oh - common)


def cut_off(found: Box, content: Box) -> float:
    """How far the content reaches beyond what was found, by the content's longest side."""
    (x, y, w, h), (cx, cy, cw, ch) = found, content
    return max(0, x - cx, y - cy, cx + cw - x - w, cy + ch - y - h) / max(cw, ch)
