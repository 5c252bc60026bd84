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
ON_LESION = 0.5  # of a shown region: with so much of it on a lesion it is no false alarm, however small it is
STEADY_IOU = 0.9  # of the labels of two frames after each other, from which a mask should be as steady


@dataclass
class ShownEvent:
    """A region that was shown: indices and times (s) of the frames that showed it. is_true: in one of them it hit or lay on a lesion."""

    number: int
    class_index: int
    indices: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    is_true: bool = False


@dataclass
class Shown:
    """What was shown over a sequence. overlaps: of the foreground with the label, at the frames' size, one per frame. events: by number.

    changes: 1 - IoU of the foreground with that of the frame before, one per frame, 0 for the first. hits: of each lesion, by its number,
    the indices of the frames where a region hit it.
    """

    overlaps: list[Overlap] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    events: dict[int, ShownEvent] = field(default_factory=dict)
    hits: dict[int, set[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class SequenceEvaluation:
    """times: of the frames, s. interval: between two, s. steady: indices of the frames whose label is not empty and has an IoU of
    STEADY_IOU or more with the one before, with 1 - that IoU. shown: by variant. threshold: that of two-class models.
    """

    name: str
    spec: ModelSpec
    backend: str
    threshold: float
    times: tuple[float, ...]
    interval: float
    steady: dict[int, float]
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
    steady: dict[int, float] = {}
    before: Uint8 | None = None
    for frame, label in sequence.pairs(classes):
        prepared = segmenter.prepare(frame.rgb)
        masks = None if prepared.is_flat else backend.infer(prepared.image)
        lesions = follower.update(prepared.letterbox.mask(label), frame.index, float(frame.time))
        for watcher in watchers.values():
            watcher.add(frame, label, lesions, prepared, masks)
        change = _change(before, label)
        if before is not None and label.any() and change <= 1 - STEADY_IOU:
            steady[frame.index] = change
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
        steady,
        tuple(follower.lesions),
        {name: watcher.shown for name, watcher in watchers.items()},
    )


class _Watcher:
    """Sees what `run` would show."""

    def __init__(self, segmenter: Segmenter, hysteresis: bool) -> None:
        self._segmenter = segmenter
        self._filter = TemporalFilter(segmenter.backend.spec.classes, segmenter.cut, hysteresis)
        self._before: Uint8 | None = None
        self.shown = Shown()

    def add(self, frame: Frame, label: Uint8, lesions: dict[Lesion, Shape], prepared: Prepared, masks: Masks | None) -> None:
        filtered = self._filter.update(masks, prepared, frame)
        mask, _ = self._segmenter.restore(prepared, filtered.masks)
        self.shown.overlaps.append(foreground_overlap(mask, label))
        self.shown.changes.append(_change(self._before, mask))
        self._before = mask
        for track in filtered.tracks:
            self._note(track, self._filter.pixels(track.id), frame, lesions)

    def _note(self, track: Track, region: Shape, frame: Frame, lesions: dict[Lesion, Shape]) -> None:
        event = self.shown.events.setdefault(track.id, ShownEvent(track.id, track.class_index))
        event.indices.append(frame.index)
        event.times.append(float(frame.time))
        for lesion, place in lesions.items():
            if lesion.class_index != track.class_index:
                continue
            common = common_pixels(region, place)
            is_hit = common >= HIT_IOU * (region.area + place.area - common)
            event.is_true |= is_hit or common >= ON_LESION * region.area
            if is_hit:
                self.shown.hits.setdefault(lesion.number, set()).add(frame.index)


def _change(before: Uint8 | None, after: Uint8) -> float:
    """1 - IoU of the foreground, 0 where there was no frame before; 1 where its size was another one."""
    if before is None:
        return 0.0
    return 1 - foreground_overlap(before, after).iou if before.shape == after.shape else 1.0
