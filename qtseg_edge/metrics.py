"""Scores of one mask against its label. Every definition is written out in docs/guides/evaluate.md.

Masks are class indices (H, W), 0 is background.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.surface_distance import hausdorff95

Uint8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]
_NAN = float("nan")


@dataclass(frozen=True)
class Metric:
    """name: a field of `Scores`. scale: what its values are multiplied by when they are shown."""

    name: str
    title: str
    scale: int = 100
    higher_is_better: bool = True


METRICS = (
    Metric("dice", "Dice"),
    Metric("iou", "IoU"),
    Metric("mae", "MAE", higher_is_better=False),
    Metric("accuracy", "Accuracy"),
    Metric("sensitivity", "Sensitivity"),
    Metric("specificity", "Specificity"),
    Metric("hd95", "HD95, pixels", scale=1, higher_is_better=False),
)
AUTHORS_METRICS = (Metric("authors_dice", "Dice, authors'"), Metric("authors_iou", "IoU, authors'"))


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of one class in one image. pixels: all of the image's, whatever their class."""

    intersection: int
    predicted: int
    labelled: int
    pixels: int

    @property
    def dice(self) -> float:
        """2|A n B| / (|A| + |B|); 1 where both are empty."""
        total = self.predicted + self.labelled
        return 2 * self.intersection / total if total else 1.0

    @property
    def iou(self) -> float:
        """|A n B| / |A u B|; 1 where both are empty."""
        union = self.predicted + self.labelled - self.intersection
        return self.intersection / union if union else 1.0

    @property
    def mae(self) -> float:
        """Share of pixels that are in one of the two only."""
        return (self.predicted + self.labelled - 2 * self.intersection) / self.pixels

    @property
    def sensitivity(self) -> float:
        """Share of the labelled pixels that are found; nan where there are none."""
        return self.intersection / self.labelled if self.labelled else _NAN

    @property
    def specificity(self) -> float:
        """Share of the other pixels that are left alone; nan where the label fills the image."""
        others = self.pixels - self.labelled
        return (others - (self.predicted - self.intersection)) / others if others else _NAN

    @property
    def by_authors_rule(self) -> Overlap:
        """As QTSeg's authors count: no true positive is counted as one, false positives and false negatives as they are."""
        return self if self.intersection else Overlap(1, self.predicted + 1, self.labelled + 1, self.pixels)


@dataclass(frozen=True)
class Scores:
    """One class in one image, or all classes together.

    Shares 0..1, hd95 in pixels, nan where undefined. labelled and predicted: how many pixels have the class.
    """

    dice: float
    iou: float
    mae: float
    accuracy: float
    sensitivity: float
    specificity: float
    hd95: float
    authors_dice: float
    authors_iou: float
    labelled: int
    predicted: int


def image_scores(predicted: Uint8, labelled: Uint8, classes: int) -> tuple[Scores, ...]:
    """Scores of every class above 0; for more than two classes followed by those of all classes together.

    A class that neither mask shows has Dice and IoU 1 where there is no other: the image is rightly empty. Among several classes they
    are nan, or the many images without a rare class would hide how badly it is found on the few that show it.
    """
    if predicted.shape != labelled.shape:
        raise ValueError(f"image_scores: wanted masks of one size, got {predicted.shape} and {labelled.shape}")
    each = tuple(_class_scores(predicted == index, labelled == index, several=classes > 2) for index in range(1, classes))
    if classes == 2:
        return each
    return (*each, _together(each, wrong=float(np.mean(predicted != labelled))))


def foreground_overlap(predicted: Uint8, labelled: Uint8) -> Overlap:
    """Of everything above 0, whatever its class."""
    return _overlap(predicted > 0, labelled > 0)


def agreement(first: Uint8, second: Uint8) -> float:
    """Share of pixels with the same class, 0..1."""
    return float(np.mean(first == second))


def _overlap(predicted: Bool, labelled: Bool) -> Overlap:
    both = int(np.count_nonzero(predicted & labelled))
    return Overlap(both, int(np.count_nonzero(predicted)), int(np.count_nonzero(labelled)), labelled.size)


def _class_scores(predicted: Bool, labelled: Bool, several: bool) -> Scores:
    overlap = _overlap(predicted, labelled)
    theirs = overlap.by_authors_rule
    nowhere = several and overlap.predicted == overlap.labelled == 0
    return Scores(
        dice=_NAN if nowhere else overlap.dice,
        iou=_NAN if nowhere else overlap.iou,
        mae=overlap.mae,
        accuracy=1 - overlap.mae,
        sensitivity=overlap.sensitivity,
        specificity=overlap.specificity,
        hd95=hausdorff95(predicted, labelled),
        authors_dice=_NAN if nowhere else theirs.dice,
        authors_iou=_NAN if nowhere else theirs.iou,
        labelled=overlap.labelled,
        predicted=overlap.predicted,
    )


def _together(each: tuple[Scores, ...], wrong: float) -> Scores:
    """The mean over the classes where a value is defined; MAE and accuracy over pixels, by whether their class is right."""
    fields = [asdict(scores) for scores in each]
    means = {name: _mean_of_defined(values[name] for values in fields) for name in fields[0]}
    counts = {name: sum(values[name] for values in fields) for name in ("labelled", "predicted")}
    return Scores(**{**means, **counts, "mae": wrong, "accuracy": 1 - wrong})


def _mean_of_defined(values: Iterable[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return sum(defined) / len(defined) if defined else _NAN
