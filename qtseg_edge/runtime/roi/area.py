"""Which part of a frame the network is shown: all of it, a fixed part, or the endoscope's picture, wherever that is.

What lies outside gets no mask, so the picture is followed with care: the crop grows as soon as two looks show content beyond it, and
becomes smaller only when four in a row, each with a sharp outline, agree (docs/decisions/0017-roi.md).
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import deque
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import UsageError
from qtseg_edge.runtime.roi.content_area import Box, Content, find_content

Uint8 = NDArray[np.uint8]
Roi: TypeAlias = Literal["auto", "none"] | Box
_LOOK_SECONDS, _SECOND_LOOK_SECONDS = 0.5, 0.1
_LOOKS_TO_GROW, _LOOKS_TO_SHRINK = 2, 4
_BEYOND, _SMALLER = 0.01, 0.03  # of the frame's longest side, on any side of the crop; less is jitter


def parse_roi(text: str) -> Roi:
    """`auto`, `none` or `x,y,w,h` in pixels; UsageError for anything else. That it lies within the frame is checked with the frame."""
    if text in ("auto", "none"):
        return text  # type: ignore[return-value]
    if re.fullmatch(r"\d+,\d+,\d+,\d+", text, re.ASCII):
        x, y, width, height = map(int, text.split(","))
        if width and height:
            return x, y, width, height
    raise UsageError(f"--roi: wanted auto, none, or x,y,w,h in pixels such as 280,0,720,720, got {text!r}")


class Area(ABC):
    """Of one stream. Not shared between threads."""

    @abstractmethod
    def of(self, rgb: Uint8, time_s: float | None) -> Box:
        """What of this frame the network is shown, within the frame.

        rgb: (h, w, 3). time_s: `Frame.time`; None where the picture stands alone: it is judged by itself, and all before it is forgotten.
        """


def area_for(roi: Roi) -> Area:
    if roi == "auto":
        return FollowedArea()
    return WholeArea() if roi == "none" else FixedArea(roi)


class WholeArea(Area):
    def of(self, rgb: Uint8, time_s: float | None) -> Box:
        return 0, 0, rgb.shape[1], rgb.shape[0]


class FixedArea(Area):
    """Raises UsageError at a frame that does not hold all of `box`."""

    def __init__(self, box: Box) -> None:
        self._box = box

    def of(self, rgb: Uint8, time_s: float | None) -> Box:
        x, y, width, height = self._box
        if x + width > rgb.shape[1] or y + height > rgb.shape[0]:
            got = ",".join(map(str, self._box))
            raise UsageError(f"--roi: wanted an area x,y,w,h within the frame of {rgb.shape[1]}x{rgb.shape[0]} pixels, got {got}")
        return self._box


class FollowedArea(Area):
    """The content of an endoscope's picture; the whole frame until it is known.

    It is looked for anew after a change of the frames' size and a step back in time. A frame in which nothing can be seen changes nothing.
    """

    def __init__(self) -> None:
        self._forget((0, 0))

    def _forget(self, frame_hw: tuple[int, int]) -> None:
        self._frame_hw = frame_hw
        self._area: Box = (0, 0, frame_hw[1], frame_hw[0])
        self._time_s: float = -math.inf
        self._next_s: float = -math.inf
        self._beyond: list[Box] = []  # what the last looks saw beyond the crop
        self._outlined: deque[Box] = deque(maxlen=_LOOKS_TO_SHRINK)

    def of(self, rgb: Uint8, time_s: float | None) -> Box:
        frame_hw = (rgb.shape[0], rgb.shape[1])
        if time_s is None:
            self._forget(frame_hw)
            content = find_content(rgb)
            return content.box if content is not None and content.is_outlined else self._area
        if frame_hw != self._frame_hw or time_s < self._time_s:
            self._forget(frame_hw)
        self._time_s = time_s
        if time_s >= self._next_s:
            self._next_s = time_s + _LOOK_SECONDS
            content = find_content(rgb)
            if content is not None:
                self._follow(content)
        return self._area

    def _follow(self, content: Content) -> None:
        if content.is_outlined:
            self._outlined.append(content.box)
        elif self._outlined and self._reaches_beyond(content.box, _around(self._outlined), _BEYOND):
            self._outlined.clear()
        if not self._reaches_beyond(content.box, self._area, _BEYOND):
            self._beyond = []
            self._shrink()
            return
        self._beyond.append(content.box)
        if len(self._beyond) < _LOOKS_TO_GROW:
            self._next_s = self._time_s + _SECOND_LOOK_SECONDS
        else:
            self._area = _around([self._area, *self._beyond])
            self._beyond = []

    def _shrink(self) -> None:
        if len(self._outlined) < _LOOKS_TO_SHRINK:
            return
        together = _around(self._outlined)
        is_steady = not any(self._reaches_beyond(together, box, _SMALLER) for box in self._outlined)
        if is_steady and self._reaches_beyond(self._area, together, _SMALLER):
            self._area = together

    def _reaches_beyond(self, box: Box, other: Box, share: float) -> bool:
        """Whether it does on any side by more than this share of the frame."""
        (x, y, w, h), (ox, oy, ow, oh) = box, other
        return max(ox - x, oy - y, x + w - ox - ow, y + h - oy - oh) > share * max(self._frame_hw)


def _around(boxes: list[Box] | deque[Box]) -> Box:
    left, top = (min(box[axis] for box in boxes) for axis in (0, 1))
    right, bottom = (max(box[axis] + box[axis + 2] for box in boxes) for axis in (0, 1))
    return left, top, right - left, bottom - top
