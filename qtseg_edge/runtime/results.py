"""One frame with what was found in it, drawn and measured at most once however many sinks want it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.runtime.frames import Frame
from qtseg_edge.runtime.overlay import Overlay
from qtseg_edge.runtime.regions import Region, regions_of
from qtseg_edge.runtime.segmenter import Segmentation


@dataclass(frozen=True)
class Result:
    """Belongs to the thread of the sinks once it has been handed over."""

    frame: Frame
    segmentation: Segmentation
    overlay: Overlay
    classes: tuple[str, ...]

    @cached_property
    def area(self) -> int:
        """Foreground pixels."""
        return cv2.countNonZero(self.segmentation.mask)

    @cached_property
    def regions(self) -> list[Region]:
        return regions_of(self.segmentation.mask, self.segmentation.confidence)

    @cached_property
    def picture(self) -> NDArray[np.uint8]:
        """RGB (h, w, 3) with the mask drawn on it."""
        share = self.area / self.segmentation.mask.size
        status = f"{float(self.frame.time):7.2f} s  {self.classes[1] if len(self.classes) == 2 else 'foreground'} {share:.1%}"
        infer_ms = self.segmentation.infer_ms
        status += f"  {'no picture' if infer_ms is None else f'{infer_ms:.0f} ms'}  research use only"
        return self.overlay.draw(self.frame.rgb, self.segmentation.mask, status)
