"""The candidates' masks against those of the same network in FP32, and against labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.benchmark.results import Result
from qtseg_edge.data import labelled_images, read_labelled_image, read_mask
from qtseg_edge.errors import QtsegError
from qtseg_edge.metrics import agreement, image_scores
from qtseg_edge.transforms import Letterbox

Uint8 = NDArray[np.uint8]
_FP32_ENGINES = ("torch", "onnxruntime", "openvino f32", "tensorrt fp32", "tensorrt-rtx fp32")


def require_labelled(split: Path, classes: int) -> None:
    """Reads everything, so that what cannot be used is told before anything is measured.

    Raises UsageError (no such folder, an image without a mask) and QtsegError (a file that cannot be used).
    """
    for pair in labelled_images(split):
        image, label = read_labelled_image(pair.image), read_mask(pair.mask, classes)
        if image.shape[:2] != label.shape:
            raise QtsegError(f"{pair.mask}: mask of {label.shape[1]}x{label.shape[0]} for an image of {image.shape[1]}x{image.shape[0]}")


def compare_masks(results: list[Result], masks: dict[int, Path]) -> None:
    """Fill in reference, pixels_equal and mask_iou. masks: by index of the result, files of `OpenCandidate.write_masks`."""
    for index, path in masks.items():
        reference = _reference(results, masks, results[index])
        if reference is None:
            continue
        result = results[index]
        ours, theirs = _opened(path), _opened(masks[reference])
        classes = result.candidate.classes
        result.reference = results[reference].candidate
        result.pixels_equal = float(np.mean([agreement(mask, wanted) for mask, wanted in zip(ours, theirs, strict=True)]))
        result.mask_iou = float(np.mean([_iou(mask, wanted, classes) for mask, wanted in zip(ours, theirs, strict=True)]))


def score_masks(results: list[Result], masks: dict[int, Path], split: Path) -> None:
    """Fill in dice: the mean over the images of `split`, at the network's size, as `evaluate` takes it there."""
    pairs = labelled_images(split)
    scores: dict[int, list[float]] = {index: [] for index in masks}
    for number, pair in enumerate(pairs):
        labels = {classes: read_mask(pair.mask, classes) for classes in {result.candidate.classes for result in results}}
        for index, path in masks.items():
            candidate = results[index].candidate
            label = labels[candidate.classes]
            letterboxed = Letterbox((label.shape[0], label.shape[1]), candidate.size_hw).mask(label)
            scores[index].append(image_scores(_opened(path)[number], letterboxed, candidate.classes)[-1].dice)
    for index, found in scores.items():
        defined = [score for score in found if not np.isnan(score)]
        results[index].dice = float(np.mean(defined)) if defined else None


def _reference(results: list[Result], masks: dict[int, Path], result: Result) -> int | None:
    """The first of the same network whose file and engine both compute in FP32, torch before the others."""
    ranked = [
        (_FP32_ENGINES.index(other.engine), index)
        for index, other in enumerate(results)
        if index in masks
        and other.candidate.network == result.candidate.network
        and other.candidate.precision == "fp32"
        and other.engine in _FP32_ENGINES
    ]
    return min(ranked)[1] if ranked else None


def _iou(mask: Uint8, wanted: Uint8, classes: int) -> float:
    """1 where neither shows anything."""
    iou = image_scores(mask, wanted, classes)[-1].iou
    return 1.0 if np.isnan(iou) else iou


def _opened(path: Path) -> Uint8:
    masks: Uint8 = np.load(path, mmap_mode="r", allow_pickle=False)  # (n, H, W)
    return masks
