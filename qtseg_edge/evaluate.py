"""One accuracy report for any backend: per-image scores at the model's size, averaged over the split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qtseg_edge.data import labelled_images, read_binary_mask, read_image
from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.metrics import foreground_overlap
from qtseg_edge.runtime.backend import Backend
from qtseg_edge.transforms import Letterbox


@dataclass(frozen=True)
class ImageScore:
    name: str
    dice: float
    iou: float
    mae: float


@dataclass(frozen=True)
class Evaluation:
    """Means over images of Dice, IoU and MAE (share of wrong pixels), all 0..1; the images in order of rising Dice."""

    images: tuple[ImageScore, ...]
    dice: float
    iou: float
    mae: float


def evaluate(backend: Backend, split: Path, on_image: Callable[[int, int], None] = lambda done, total: None) -> Evaluation:
    """Score `split/{images,masks}` for a two-class model, by the masks of the graph itself (threshold 0.5).

    on_image(done, total) is called after every image.
    """
    spec = backend.spec
    if spec.classes != 2:
        raise UsageError(f"evaluate: wanted a two-class model, {spec.card.name} has {spec.classes} classes")
    if spec.batch not in (1, None):
        raise UsageError(f"evaluate: wanted a model of batch 1 or dynamic, got {spec.batch}; export it again with --batch 1")
    pairs = labelled_images(split)
    scores = []
    for done, pair in enumerate(pairs, 1):
        image, labelled = read_image(pair.image), read_binary_mask(pair.mask)
        if image.shape[:2] != labelled.shape:
            raise QtsegError(
                f"{pair.mask}: mask of {labelled.shape[1]}x{labelled.shape[0]} for an image of {image.shape[1]}x{image.shape[0]}"
            )
        letterbox = Letterbox((labelled.shape[0], labelled.shape[1]), spec.size_hw)
        predicted = backend.infer(letterbox.frame(image)[None]).mask[0]
        wanted = letterbox.mask(labelled)
        overlap = foreground_overlap(predicted, wanted)
        scores.append(ImageScore(pair.image.name, overlap.dice, overlap.iou, float(np.mean(predicted != wanted))))
        on_image(done, len(pairs))
    means = (float(np.mean([getattr(score, name) for score in scores])) for name in ("dice", "iou", "mae"))
    return Evaluation(tuple(sorted(scores, key=lambda score: score.dice)), *means)
