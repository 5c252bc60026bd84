"""Two evaluations of the same images, image by image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qtseg_edge.bootstrap import Estimate, estimate
from qtseg_edge.errors import UsageError
from qtseg_edge.evaluate import SIZES, Evaluation, Size
from qtseg_edge.metrics import Metric
from qtseg_edge.spec import ModelSpec


@dataclass(frozen=True)
class Difference:
    """MODEL minus OTHER over the images where both have a value. better, worse, equal: images, from MODEL's side."""

    estimate: Estimate
    better: int
    worse: int
    equal: int


def require_same_classes(model: ModelSpec, other: ModelSpec) -> None:
    """Raises UsageError: scores of different classes cannot be subtracted."""
    if model.card.classes != other.card.classes:
        raise UsageError(
            f"--compare: wanted a model with the classes {', '.join(model.card.classes)}; "
            f"{other.card.name} has {', '.join(other.card.classes)}"
        )


def common_sizes(model: Evaluation, other: Evaluation) -> tuple[Size, ...]:
    """Network size is one of them only where both models have the same: at different ones label and pixel are not the same thing."""
    return SIZES if model.spec.size_hw == other.spec.size_hw else ("original",)


def difference(model: Evaluation, other: Evaluation, size: Size, row: int, metric: Metric) -> Difference:
    if [image.name for image in model.images] != [image.name for image in other.images]:
        raise ValueError("difference: wanted evaluations of the same images")
    differences = model.values(size, row, metric) - other.values(size, row, metric)
    gains = differences if metric.higher_is_better else -differences
    better, worse, equal = (int(np.count_nonzero(where)) for where in (gains > 0, gains < 0, gains == 0))
    return Difference(estimate(differences), better, worse, equal)
