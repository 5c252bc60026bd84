"""A model on a labelled sequence: one run of the network, shown without and with the temporal filter.

docs/guides/sequences.md says what each number means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.metrics import Overlap, foreground_overlap
from qtseg_edge.runtime.backend import Backend, Masks
from qtseg_edge.runtime.frames import Frame
from qtseg_edge.runtime.segmenter import Prepared, Segmenter
from qtseg_edge.runtime.temporal.events import Track
from qtseg_edge.runtime.temporal.filter import TemporalFilter
from qtseg_edge.runtime.temporal.regions import Shape, common_pixels
from qtseg_edge.sequences.labelled import LabelledSequence
from qtseg_edge.sequences.lesions import Lesion, LesionFollower
from qtseg_edge.spec import ModelSpec

Uint8 = NDArray[np.uint8]
Variant = Literal["without filter", "with filter"]
VARIANTS: tuple[Variant, ...] = ("without filter", "with filter")
HIT_IOU = 0.1  # from which a shown region counts as showing a lesion
STEADY_IOU = 0.9  # of the labels of two frames after each other, from which a mask should be as steady


@dataclass
class ShownEvent:
    """A region that was shown: indices and times (s) of the frames that showed it. is_true: it hit a lesion in one of them at least."""

    number: int
    class_index: int
    indices: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    is_true: bool = False


@dataclass
class Shown:
    """What was shown over a sequence. overlaps: of the foreground with the label, at the frames' size, one per frame. events: by number.

    hits: of each lesion, by its number, the indices of the frames where a region hit it.
    """

    overlaps: list[Overlap] = field(default_factory=list)
    events: dict[int, ShownEvent] = field(default_factory=dict)
    hits: dict[int, set[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class SequenceEvaluation:
    """times: of the frames, s. interval: between two, s. steady: whether the label of a frame has an IoU of STEADY_IOU with the one before.

    shown: by variant. threshold: that of two-class models.
    """

    name: str
    spec: ModelSpec
    backend: str
    threshold: float
    times: tuple[float, ...]
    interval: float
    steady: tuple[bool, ...]
    lesions: tuple[Lesion, ...]
    shown: dict[Variant, Shown]

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.times[0] + self.interval


def evaluate_sequence(
    backend: Backend, sequence: LabelledSequence, on_frame: Callable[[int, int], None] = lambda done, total: None
) -> SequenceEvaluation:
    """Every frame, in order. on_frame(done, total) is called after each. Raises what the sequence, the model and the engine raise."""
    segmenter = Segmenter(backend)
    classes = backend.spec.classes
    watchers = {name: _Watcher(segmenter, hysteresis=name == "with filter") for name in VARIANTS}
    follower = LesionFollower(classes)
    times: list[float] = []
    steady: list[bool] = []
    before = np.zeros((0, 0), np.uint8)
    for frame, label in sequence.pairs(classes):
        prepared = segmenter.prepare(frame.rgb)
        masks = None if prepared.is_flat else backend.infer(prepared.image)
        lesions = follower.update(prepared.letterbox.mask(label), frame.index, float(frame.time))
        for watcher in watchers.values():
            watcher.add(frame, label, lesions, prepared, masks)
        steady.append(before.shape == label.shape and bool(label.any()) and foreground_overlap(before, label).iou >= STEADY_IOU)
        times.append(float(frame.time))
        before = label
        on_frame(len(times), len(sequence))
    return SequenceEvaluation(
        sequence.name,
        backend.spec,
        backend.name,
        segmenter.threshold,
        tuple(times),
        float(1 / sequence.rate),
        tuple(steady),
        tuple(follower.lesions),
        {name: watcher.shown for name, watcher in watchers.items()},
    )


class _Watcher:
    """Sees what `run` would show."""

    def __init__(self, segmenter: Segmenter, hysteresis: bool) -> None:
        cut = max(1, round(segmenter.threshold * 255))
        self._segmenter = segmenter
        self._filter = TemporalFilter(segmenter.backend.spec.classes, cut, hysteresis)
        self.shown = Shown()

    def add(self, frame: Frame, label: Uint8, lesions: dict[Lesion, Shape], prepared: Prepared, masks: Masks | None) -> None:
        filtered = self._filter.update(masks, prepared, frame)
        mask, _ = self._segmenter.restore(prepared, filtered.masks)
        self.shown.overlaps.append(foreground_overlap(mask, label))
        for track in filtered.tracks:
            self._note(track, self._filter.pixels(track.id), frame, lesions)

    def _note(self, track: Track, region: Shape, frame: Frame, lesions: dict[Lesion, Shape]) -> None:
        event = self.shown.events.setdefault(track.id, ShownEvent(track.id, track.class_index))
        event.indices.append(frame.index)
        event.times.append(float(frame.time))
        for lesion, place in lesions.items():
            if lesion.class_index == track.class_index and _iou(region, place) >= HIT_IOU:
                event.is_true = True
                self.shown.hits.setdefault(lesion.number, set()).add(frame.index)


def _iou(one: Shape, other: Shape) -> float:
    common = common_pixels(one, other)
    return common / (one.area + other.area - common)
