"""One frame with what was found in it, drawn and measured at most once however many sinks want it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.runtime.frames import Frame
from qtseg_edge.runtime.overlay import Overlay
from qtseg_edge.runtime.regions import Region, regions_of
from qtseg_edge.runtime.segmenter import Segmentation
from qtseg_edge.runtime.temporal.events import Event, Track


@dataclass(frozen=True)
class Result:
    """Read by the sinks' threads, changed by none of them.

    tracks: the regions of this frame that are followed. events: those that are open, or ended since the frame before.
    stream: which of the run's sources it is from, counted from 0. segmented_at: `time.perf_counter()` when the mask was ready.
    """

    frame: Frame
    segmentation: Segmentation
    overlay: Overlay
    classes: tuple[str, ...]
    tracks: tuple[Track, ...] = ()
    events: tuple[Event, ...] = ()
    stream: int = 0
    segmented_at: float = 0.0

    @cached_property
    def area(self) -> int:
        """Foreground pixels."""
        return cv2.countNonZero(self.segmentation.mask)

    @cached_property
    def regions(self) -> list[Region]:
        return regions_of(self.segmentation.mask, self.segmentation.confidence)

    @cached_property
    def picture(self) -> NDArray[np.uint8]:
        """RGB (h, w, 3) with the mask drawn on it; says so where there is no signal. Drawn before the sinks that want it get it."""
        if not self.frame.has_signal:
            return self.overlay.no_signal(self.frame.rgb.shape[:2], f"{float(self.frame.time):7.2f} s  research use only")
        share = self.area / self.segmentation.mask.size
        status = f"{float(self.frame.time):7.2f} s  {self.classes[1] if len(self.classes) == 2 else 'foreground'} {share:.1%}"
        infer_ms = self.segmentation.infer_ms
        status += f"  {'no picture' if infer_ms is None else f'{infer_ms:.0f} ms'}  research use only"
        return self.overlay.draw(self.frame.rgb, self.segmentation.mask, status)

    def without_signal(self) -> Result:
        """The same frame as one that nothing is known of: what is shown instead of a mask that has come too late."""
        return replace(self, frame=replace(self.frame, has_signal=False), tracks=())
