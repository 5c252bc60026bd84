"""A frame of any size in, a mask of that size out: letterbox, backend, threshold, and the way back."""

from __future__ import annotations

import time
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import UsageError
from qtseg_edge.runtime.backend import Backend, Masks
from qtseg_edge.runtime.roi.area import Roi, area_for
from qtseg_edge.runtime.roi.content_area import Box
from qtseg_edge.transforms import Letterbox

Uint8 = NDArray[np.uint8]
# A lost signal is one colour with little noise; any tissue varies more (docs/decisions/0006-empty-frames.md).
_FLAT_STANDARD_DEVIATION = 2.0


@dataclass(frozen=True)
class Segmentation:
    """One frame's result, owned by the caller.

    mask: class index (h, w), uint8, at the frame's size. confidence: probability of that class x 255, (h, w), uint8.
    Latencies in milliseconds: prepare (letterbox), infer (backend; None where it was not asked), restore (back to
    the frame's size).
    """

    mask: Uint8
    confidence: Uint8
    prepare_ms: float
    infer_ms: float | None
    restore_ms: float


@dataclass(frozen=True)
class Prepared:
    """A frame as the backend wants it: `image` (1, H, W, 3), its own.

    area: the part of the frame that the network is shown; the letterbox maps this part alone. frame_hw: size of the whole frame.
    is_flat: the area has no content (one colour), so it is all background, whatever the network would say.
    """

    image: Uint8
    letterbox: Letterbox
    is_flat: bool
    area: Box
    frame_hw: tuple[int, int]


class Segmenter:
    """Segments the frames of one stream, one at a time. `prepare` is called by one thread; another may call `restore` meanwhile.

    `segment` is `prepare`, the backend and `restore`; who wants the network's own mask as well calls the three.

    threshold: foreground probability from which a pixel counts; the model card's when None; two-class models only.
    roi: which part of a frame the network is shown; what lies outside is background.
    """

    def __init__(self, backend: Backend, threshold: float | None = None, roi: Roi = "none") -> None:
        spec = backend.spec
        if spec.batch not in (1, None):
            raise UsageError(f"{backend.name}: wanted a model of batch 1 or dynamic, got {spec.batch}; export it again with --batch 1")
        if threshold is not None and spec.classes != 2:
            raise UsageError(f"--threshold applies to two-class models, this one has {spec.classes} classes")
        if threshold is not None and not 0.0 < threshold < 1.0:
            raise UsageError(f"--threshold: wanted a probability between 0 and 1, got {threshold}")
        self.backend = backend
        self.threshold = spec.card.threshold if threshold is None else threshold
        self._area = area_for(roi)

    @property
    def cut(self) -> int:
        """Foreground probability x 255 from which a pixel counts."""
        return max(1, round(self.threshold * 255))

    def segment(self, frame: Uint8, time_s: float | None = None) -> Segmentation:
        """frame, time_s: as of `prepare`. The backend is not asked about a flat one."""
        started = time.perf_counter()
        prepared = self.prepare(frame, time_s)
        ready = time.perf_counter()
        masks = None if prepared.is_flat else self.backend.infer(prepared.image)
        inferred = time.perf_counter()
        mask, confidence = self.restore(prepared, masks)
        infer_ms = None if masks is None else _ms(ready, inferred)
        return Segmentation(mask, confidence, _ms(started, ready), infer_ms, _ms(inferred, time.perf_counter()))

    def prepare(self, frame: Uint8, time_s: float | None = None) -> Prepared:
        """frame: RGB (h, w, 3) uint8; UsageError for anything else, and where a fixed roi is not within it.

        time_s: of the frame in its stream, in seconds, for `auto` to follow the picture; None where the frame stands alone, as a still
        image does and one without signal: what came before it is forgotten.
        """
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
            raise UsageError(f"segment: wanted an RGB frame (h, w, 3) of uint8, got {frame.dtype} {frame.shape}")
        x, y, width, height = area = self._area.of(frame, time_s)
        letterbox = Letterbox((height, width), self.backend.spec.size_hw)
        # Of its own, because frames are prepared ahead of the network.
        image = np.zeros((1, *letterbox.size_hw, 3), np.uint8)
        letterbox.frame(frame[y : y + height, x : x + width], out=image[0])
        content_h, content_w = letterbox.content_hw
        return Prepared(image, letterbox, _is_flat(image[0, :content_h, :content_w]), area, (frame.shape[0], frame.shape[1]))

    def restore(self, prepared: Prepared, masks: Masks | None) -> tuple[Uint8, Uint8]:
        """What the backend gave for `prepared.image` -> class index and confidence (h, w) at the frame's size, owned by the caller.

        masks is not looked at, and may be None, where the frame is flat; nowhere else. Outside the area all is background.
        """
        if prepared.is_flat:
            masks = None
        elif masks is None:
            raise ValueError("restore: wanted the backend's masks of a frame with content, got None")
        elif prepared.letterbox.source_hw == prepared.frame_hw:
            return self._enlarged(masks, prepared.letterbox)
        mask, confidence = np.zeros(prepared.frame_hw, np.uint8), np.full(prepared.frame_hw, 255, np.uint8)
        if masks is not None:
            x, y, width, height = prepared.area
            within = np.s_[y : y + height, x : x + width]
            mask[within], confidence[within] = self._enlarged(masks, prepared.letterbox)
        return mask, confidence

    def _enlarged(self, masks: Masks, letterbox: Letterbox) -> tuple[Uint8, Uint8]:
        mask, confidence = masks.mask[0], masks.confidence[0]
        if self.backend.spec.classes > 2:
            return letterbox.labels_to_source(mask).copy(), letterbox.levels_to_source(confidence).copy()
        # Two classes: the probability is interpolated and then cut, which gives smooth outlines on large frames.
        foreground = letterbox.levels_to_source(_flipped(confidence, mask))
        restored = np.greater_equal(foreground, self.cut).view(np.uint8)  # (h, w) of 0 and 1
        return restored, _flipped(foreground, restored)


def _flipped(levels: Uint8, mask: Uint8) -> Uint8:
    """levels where the mask is 1, 255 - levels where it is 0: one probability from the other, and back."""
    return cv2.bitwise_xor(levels, mask - np.uint8(1))  # type: ignore[return-value]


def _is_flat(content: Uint8) -> bool:
    _, deviation = cv2.meanStdDev(content)
    return bool(deviation.max() < _FLAT_STANDARD_DEVIATION)


def _ms(start: float, end: float) -> float:
    return (end - start) * 1e3
