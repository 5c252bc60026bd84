"""Does a low-precision model still draw the masks of the FP32 one? Asked on images that it was not calibrated on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.data import labelled_images, read_image, read_labelled_image, read_mask
from qtseg_edge.errors import QtsegError
from qtseg_edge.metrics import image_scores
from qtseg_edge.runtime.backend import Backend
from qtseg_edge.runtime.segmenter import Segmenter

Uint8 = NDArray[np.uint8]
MOST_DICE_POINTS_LOST = 0.5
LEAST_MASK_IOU = 0.93
_WORST_SHOWN = 8


class GateImage(NamedTuple):
    """frame: RGB (h, w, 3). label: class index (h, w), None where the images are not labelled."""

    name: str
    frame: Uint8
    label: Uint8 | None


@dataclass(frozen=True)
class ImageResult:
    """mask_iou: of the two models' masks, 1 where both are empty. Dice 0..1 against the label, nan where there is none."""

    name: str
    mask_iou: float
    dice: float
    reference_dice: float


@dataclass(frozen=True)
class GateResult:
    """judge: what ran the candidate. data: where the images come from. limit: of Dice points lost, or of the mask IoU."""

    judge: str
    data: str
    measure: Literal["dice", "mask_iou"]
    limit: float
    images: tuple[ImageResult, ...]

    @property
    def mask_iou(self) -> float:
        return _mean([image.mask_iou for image in self.images])

    @property
    def dice(self) -> float:
        return _mean([image.dice for image in self.images])

    @property
    def reference_dice(self) -> float:
        return _mean([image.reference_dice for image in self.images])

    @property
    def points_lost(self) -> float:
        return 100 * (self.reference_dice - self.dice)

    @property
    def passed(self) -> bool:
        return self.points_lost <= self.limit if self.measure == "dice" else self.mask_iou >= self.limit

    @property
    def worst(self) -> tuple[ImageResult, ...]:
        return tuple(sorted(self.images, key=lambda image: image.mask_iou)[:_WORST_SHOWN])

    def verdict(self) -> str:
        """One line."""
        iou = f"mask IoU with FP32 {self.mask_iou:.3f}"
        if self.measure == "mask_iou":
            return f"{iou} on {len(self.images)} images of {self.data}, wanted at least {self.limit:g}"
        scores = f"Dice {100 * self.dice:.2f} against {100 * self.reference_dice:.2f} of FP32"
        return f"{scores} ({iou}) on {len(self.images)} images of {self.data}, wanted at most {self.limit:g} points less"

    def document(self) -> dict[str, Any]:
        """For the sidecar, the graph's metadata and --json. Dice is null without labels."""
        labelled = self.measure == "dice"
        return {
            "passed": self.passed,
            "measure": self.measure,
            "limit": self.limit,
            "judge": self.judge,
            "data": self.data,
            "images": len(self.images),
            "mask_iou": round(self.mask_iou, 5),
            "dice": round(self.dice, 5) if labelled and self.dice == self.dice else None,
            "reference_dice": round(self.reference_dice, 5) if labelled and self.reference_dice == self.reference_dice else None,
            "worst": [{name: value for name, value in asdict(image).items() if value == value} for image in self.worst],
        }


def labelled_gate_images(split: Path, classes: int) -> Iterator[GateImage]:
    """Of `split/{images,masks}`."""
    for pair in labelled_images(split):
        yield GateImage(pair.image.name, read_labelled_image(pair.image), read_mask(pair.mask, classes))


def gate_images(paths: Iterable[Path]) -> Iterator[GateImage]:
    """Without labels."""
    for path in paths:
        yield GateImage(path.name, read_image(path), None)


def compare(
    reference: Backend,
    candidate: Backend,
    images: Iterable[GateImage],
    data: str,
    limit: float | None = None,
    on_image: Callable[[int], None] = lambda done: None,
) -> GateResult:
    """Both models on every image, at the network's size: the graphs' own masks, as published scores are taken.

    limit: of Dice points lost where there are labels, of the mask IoU where there are none; 0.5 and 0.93 when None.
    Raises QtsegError where there is no image to compare on.
    """
    first, second = Segmenter(reference), Segmenter(candidate)
    results: list[ImageResult] = []
    labels = 0
    for image in images:
        results.append(_compared(first, second, image))
        labels += image.label is not None
        on_image(len(results))
    if not results:
        raise QtsegError(f"{data}: no image to compare the precisions on")
    if labels:
        default = MOST_DICE_POINTS_LOST
        return GateResult(candidate.name, data, "dice", default if limit is None else limit, tuple(results))
    return GateResult(candidate.name, data, "mask_iou", LEAST_MASK_IOU if limit is None else limit, tuple(results))


def _compared(first: Segmenter, second: Segmenter, image: GateImage) -> ImageResult:
    classes = first.backend.spec.classes
    prepared = first.prepare(image.frame)
    wanted = first.backend.infer(prepared.image).mask[0].copy()
    found = second.backend.infer(second.prepare(image.frame).image).mask[0]
    iou = image_scores(found, wanted, classes)[-1].iou
    same = ImageResult(image.name, 1.0 if np.isnan(iou) else iou, float("nan"), float("nan"))
    if image.label is None:
        return same
    label = prepared.letterbox.mask(image.label)
    dice, reference_dice = (image_scores(mask, label, classes)[-1].dice for mask in (found, wanted))
    return ImageResult(image.name, same.mask_iou, dice, reference_dice)


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
