"""A frame of any size in, a mask of that size out: letterbox, backend, threshold, and the way back."""

from __future__ import annotations

import time
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import UsageError
from qtseg_edge.runtime.backend import Backend, Masks
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
    """A frame as the backend wants it: `image` (1, H, W, 3), the segmenter's own, overwritten by the next frame.

    is_flat: the frame has no content (one colour), so it is all background, whatever the network would say.
    """

    image: Uint8
    letterbox: Letterbox
    is_flat: bool


class Segmenter:
    """Segments frames one at a time. Not shared between threads.

    `segment` is `prepare`, the backend and `restore`; who wants the network's own mask as well calls the three.

    threshold: foreground probability from which a pixel counts; the model card's when None; two-class models only.
    """

    def __init__(self, backend: Backend, threshold: float | None = None) -> None:
        spec = backend.spec
        if spec.batch not in (1, None):
            raise UsageError(f"{backend.name}: wanted a model of batch 1 or dynamic, got {spec.batch}; export it again with --batch 1")
        if threshold is not None and spec.classes != 2:
            raise UsageError(f"--threshold applies to two-class models, this one has {spec.classes} classes")
        if threshold is not None and not 0.0 < threshold < 1.0:
            raise UsageError(f"--threshold: wanted a probability between 0 and 1, got {threshold}")
        self.backend = backend
        self.threshold = spec.card.threshold if threshold is None else threshold
        self._input = np.zeros((1, *spec.size_hw, 3), np.uint8)
        self._letterbox: Letterbox | None = None

    @property
    def cut(self) -> int:
        """Foreground probability x 255 from which a pixel counts."""
        return max(1, round(self.threshold * 255))

    def segment(self, frame: Uint8) -> Segmentation:
        """frame: RGB (h, w, 3) uint8. The backend is not asked about a flat one."""
        started = time.perf_counter()
        prepared = self.prepare(frame)
        ready = time.perf_counter()
        masks = None if prepared.is_flat else self.backend.infer(prepared.image)
        inferred = time.perf_counter()
        mask, confidence = self.restore(prepared, masks)
        infer_ms = None if masks is None else _ms(ready, inferred)
        return Segmentation(mask, confidence, _ms(started, ready), infer_ms, _ms(inferred, time.perf_counter()))

    def prepare(self, frame: Uint8) -> Prepared:
        """frame: RGB (h, w, 3) uint8; UsageError for anything else."""
        letterbox = self._geometry(frame)
        letterbox.frame(frame, out=self._input[0])
        content_h, content_w = letterbox.content_hw
        return Prepared(self._input, letterbox, _is_flat(self._input[0, :content_h, :content_w]))

    def restore(self, prepared: Prepared, masks: Masks | None) -> tuple[Uint8, Uint8]:
        """What the backend gave for `prepared.image` -> class index and confidence (h, w) at the frame's size, owned by the caller.

        masks is not looked at, and may be None, where the frame is flat; nowhere else.
        """
        if prepared.is_flat:
            source_hw = prepared.letterbox.source_hw
            return np.zeros(source_hw, np.uint8), np.full(source_hw, 255, np.uint8)
        if masks is None:
            raise ValueError("restore: wanted the backend's masks of a frame with content, got None")
        return self._enlarged(masks, prepared.letterbox)

    def _geometry(self, frame: Uint8) -> Letterbox:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
            raise UsageError(f"segment: wanted an RGB frame (h, w, 3) of uint8, got {frame.dtype} {frame.shape}")
        source_hw = (frame.shape[0], frame.shape[1])
        if self._letterbox is None or self._letterbox.source_hw != source_hw:
            self._letterbox = Letterbox(source_hw, self.backend.spec.size_hw)
            self._input[:] = 0  # the padding of the new geometry must not show the old frame
        return self._letterbox

    def _enlarged(self, masks: Masks, letterbox: Letterbox) -> tuple[Uint8, Uint8]:
        mask, confidence = masks.mask[0], masks.confidence[0]
        if self.backend.spec.classes > 2:
            return letterbox.labels_to_source(mask).copy(), letterbox.levels_to_source(confidence).copy()
        # Two classes: the probability is interpolated and then cut, which gives smooth outlines on large frames.
        foreground = letterbox.levels_to_source(np.where(mask > 0, confidence, 255 - confidence))
        restored = np.greater_equal(foreground, self.cut).view(np.uint8)  # (h, w) of 0 and 1
        return restored, np.where(restored > 0, foreground, 255 - foreground)


def _is_flat(content: Uint8) -> bool:
    _, deviation = cv2.meanStdDev(content)
    return bool(deviation.max() < _FLAT_STANDARD_DEVIATION)


def _ms(start: float, end: float) -> float:
    return (end - start) * 1e3
