"""Every labelled image of a folder scored, for any backend, by the runtime that video goes through.

One inference gives two masks. At network size: the graph's own, at the model's input, padding included, as published scores are taken.
At original size: what `run` would draw, against the label as it is. docs/guides/evaluate.md says what each number means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.data import LabelledImage, labelled_images, read_labelled_image, read_mask
from qtseg_edge.errors import QtsegError
from qtseg_edge.metrics import Metric, Scores, image_scores
from qtseg_edge.runtime.backend import Backend
from qtseg_edge.runtime.segmenter import Segmenter
from qtseg_edge.spec import ModelSpec

Uint8 = NDArray[np.uint8]
Size = Literal["network", "original"]
SIZES: tuple[Size, ...] = ("network", "original")
ALL_CLASSES = "all classes"
_WORST_KEPT = 8


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image at both sizes, in the order of `Evaluation.rows`."""

    name: str
    network: tuple[Scores, ...]
    original: tuple[Scores, ...]

    def at(self, size: Size) -> tuple[Scores, ...]:
        return self.network if size == "network" else self.original


@dataclass(frozen=True)
class Case:
    """One class of one image with what the model made of it. predicted: class index (h, w) at original size, as are the scores."""

    pair: LabelledImage
    class_index: int
    scores: Scores
    predicted: Uint8


@dataclass(frozen=True)
class Presence:
    """Images by whether label and prediction show a class: what the scores that such images lack would hide.

    missed: images with the class in the label (`labelled`) and not one pixel of it in the prediction; invented: the reverse.
    """

    labelled: int
    missed: int
    unlabelled: int
    invented: int


@dataclass(frozen=True)
class Evaluation:
    """backend: what the user reads, such as "openvino bf16". images: by file name. worst: the lowest Dice at original size first."""

    spec: ModelSpec
    backend: str
    threshold: float
    images: tuple[ImageScores, ...]
    worst: tuple[Case, ...]

    @property
    def rows(self) -> tuple[str, ...]:
        """What is scored: every class but the background and, where there are several, all together."""
        names = self.spec.card.classes[1:]
        return names if len(names) == 1 else (*names, ALL_CLASSES)

    def values(self, size: Size, row: int, metric: Metric) -> NDArray[np.float64]:
        """One value per image, nan where undefined."""
        return np.array([getattr(image.at(size)[row], metric.name) for image in self.images], np.float64)

    def presence(self, size: Size, row: int) -> Presence:
        labelled = np.array([image.at(size)[row].labelled > 0 for image in self.images])
        predicted = np.array([image.at(size)[row].predicted > 0 for image in self.images])
        counts = (labelled, labelled & ~predicted, ~labelled, predicted & ~labelled)
        return Presence(*(int(np.count_nonzero(where)) for where in counts))


def evaluate(backend: Backend, split: Path, on_image: Callable[[int, int], None] = lambda done, total: None) -> Evaluation:
    """Score every image of `split/{images,masks}`. on_image(done, total) is called after each.

    Raises UsageError (no such split, an image without a mask, a model of a larger batch) and QtsegError (a file that cannot be used).
    """
    segmenter = Segmenter(backend)
    pairs = labelled_images(split)
    images: list[ImageScores] = []
    worst: list[Case] = []
    for done, pair in enumerate(pairs, 1):
        scored, predicted = _scored(segmenter, pair)
        images.append(scored)
        worst = _worst_of([*worst, *_cases(pair, scored, predicted, backend.spec.classes)])
        on_image(done, len(pairs))
    return Evaluation(backend.spec, backend.name, segmenter.threshold, tuple(images), tuple(worst))


def _scored(segmenter: Segmenter, pair: LabelledImage) -> tuple[ImageScores, Uint8]:
    """The scores and the class index (h, w) at original size."""
    classes = segmenter.backend.spec.classes
    image, labelled = read_labelled_image(pair.image), read_mask(pair.mask, classes)
    if image.shape[:2] != labelled.shape:
        raise QtsegError(f"{pair.mask}: mask of {labelled.shape[1]}x{labelled.shape[0]} for an image of {image.shape[1]}x{image.shape[0]}")
    prepared = segmenter.prepare(image)
    masks = segmenter.backend.infer(prepared.image)
    at_network = image_scores(masks.mask[0], prepared.letterbox.mask(labelled), classes)
    predicted, _ = segmenter.restore(prepared, masks)
    return ImageScores(pair.image.name, at_network, image_scores(predicted, labelled, classes)), predicted


def _cases(pair: LabelledImage, scored: ImageScores, predicted: Uint8, classes: int) -> list[Case]:
    each = [Case(pair, index, scored.original[index - 1], predicted) for index in range(1, classes)]
    return [case for case in each if not np.isnan(case.scores.dice)]


def _worst_of(cases: list[Case]) -> list[Case]:
    """Few are kept, because each holds a mask; where Dice is equal, those that came first."""
    return sorted(cases, key=lambda case: case.scores.dice)[:_WORST_KEPT]
