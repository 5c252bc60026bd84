"""What sequences of a model come to. docs/guides/sequences.md has every definition."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import chain, pairwise
from typing import Any

import numpy as np

from qtseg_edge.sequences.evaluation import SequenceEvaluation, Shown, ShownEvent, Variant
from qtseg_edge.sequences.lesions import Lesion


@dataclass(frozen=True)
class Span:
    """How long something lasted or took."""

    seconds: float
    frames: int


@dataclass(frozen=True)
class Measures:
    """Of one sequence, or of several together, for one variant. Raw counts, so that sequences add up.

    lesions, and to_detection: of those that were detected, from the first frame that shows them to the first that hits them.
    lesion_frames: frames x lesions, and how many of them were hit. pairs: two frames after each other that show a lesion which was hit
    before, and flips: those where it is hit in one of the two only. mask_changes: 1 - IoU with the frame before, where the label is steady,
    and label_changes: the same of the label. dices: of frames with a label.
    """

    seconds: float
    lesions: int
    to_detection: tuple[Span, ...]
    lesion_frames: int
    hit_frames: int
    pairs: int
    flips: int
    events: int
    false_events: tuple[Span, ...]
    mask_changes: tuple[float, ...]
    label_changes: tuple[float, ...]
    dices: tuple[float, ...]
    touched_frames: int
    empty_frames: int
    marked_empty_frames: int

    @property
    def detected(self) -> int:
        return len(self.to_detection)

    @property
    def false_events_per_minute(self) -> float:
        return 60 * len(self.false_events) / self.seconds


def measures(evaluation: SequenceEvaluation, variant: Variant) -> Measures:
    shown = evaluation.shown[variant]
    pairs, flips = _flips(evaluation.lesions, shown)
    labelled = [overlap for overlap in shown.overlaps if overlap.labelled]
    empty = [overlap for overlap in shown.overlaps if not overlap.labelled]
    first_hits = [(lesion, first_hit(lesion, shown)) for lesion in evaluation.lesions]
    return Measures(
        seconds=evaluation.seconds,
        lesions=len(evaluation.lesions),
        to_detection=tuple(span for _, span in first_hits if span is not None),
        lesion_frames=sum(len(lesion.indices) for lesion in evaluation.lesions),
        hit_frames=sum(len(hit) for hit in shown.hits.values()),
        pairs=pairs,
        flips=flips,
        events=len(shown.events),
        false_events=tuple(_duration(event, evaluation.interval) for event in shown.events.values() if not event.is_true),
        mask_changes=tuple(shown.changes[index] for index in evaluation.steady),
        label_changes=tuple(evaluation.steady.values()),
        dices=tuple(overlap.dice for overlap in labelled),
        touched_frames=sum(overlap.intersection > 0 for overlap in labelled),
        empty_frames=len(empty),
        marked_empty_frames=sum(overlap.predicted > 0 for overlap in empty),
    )


def pooled(each: Iterable[Measures]) -> Measures:
    """Of all sequences together: every lesion, event and frame counts the same."""
    found = list(each)

    def total(name: str) -> Any:
        values = [getattr(one, name) for one in found]
        return tuple(chain.from_iterable(values)) if isinstance(values[0], tuple) else sum(values)

    return Measures(**{field.name: total(field.name) for field in fields(Measures)})


def first_hit(lesion: Lesion, shown: Shown) -> Span | None:
    """From the first frame that shows the lesion to the first where it is hit: 0 where that is the same. None where it is never."""
    hits = shown.hits.get(lesion.number)
    if not hits:
        return None
    frames = lesion.indices.index(min(hits))
    return Span(lesion.times[frames] - lesion.times[0], frames)


def mean(values: Iterable[float]) -> float:
    """nan of nothing."""
    found = list(values)
    return float(np.mean(found)) if found else float("nan")


def _flips(lesions: tuple[Lesion, ...], shown: Shown) -> tuple[int, int]:
    pairs = flips = 0
    for lesion in lesions:
        hits = shown.hits.get(lesion.number, set())
        states = [index in hits for index in lesion.indices if hits and index >= min(hits)]
        pairs += max(len(states) - 1, 0)
        flips += sum(before != after for before, after in pairwise(states))
    return pairs, flips


def _duration(event: ShownEvent, interval: float) -> Span:
    return Span(event.times[-1] - event.times[0] + interval, len(event.indices))
