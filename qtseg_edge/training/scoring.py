"""Validation scores of a network in training: float32, per image at the deployed side, averaged as published."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from qtseg_edge.metrics import foreground_overlap
from qtseg_edge.model.network import QTSeg
from qtseg_edge.model.normalise import normalise
from qtseg_edge.spec import Normalisation
from qtseg_edge.training.images import Images
from qtseg_edge.training.losses import segmentation_loss
from qtseg_edge.training.processes import Processes

_BATCH = 4


@dataclass(frozen=True)
class ImageScore:
    """One image. dice and iou have a value per foreground class, 1 where neither label nor prediction has the class."""

    loss: float
    dice: tuple[float, ...]
    iou: tuple[float, ...]


@torch.inference_mode()
def score(network: QTSeg, images: Images, classes: int, how: Normalisation, processes: Processes) -> dict[str, float]:
    """val_loss, val_dice and val_iou: means over the classes of means over the images, whose work the processes share."""
    own = torch.arange(processes.rank, len(images), processes.world)
    scores: list[ImageScore] = []
    for indices in own.split(_BATCH):
        frames, masks = images.batch(indices, processes.device)
        logits = network(normalise(frames * 255, how))
        predicted = logits.argmax(dim=1).byte().cpu().numpy()  # (N, S, S)
        for index in range(len(indices)):
            loss = segmentation_loss(logits[index : index + 1], masks[index : index + 1, 0].long()).item()
            scores.append(_image_score(loss, predicted[index], masks[index, 0].byte().cpu().numpy(), classes))
    scores = processes.gathered(scores)
    return {
        "val_loss": float(np.mean([one.loss for one in scores])),
        "val_dice": float(np.mean([one.dice for one in scores])),
        "val_iou": float(np.mean([one.iou for one in scores])),
    }


def _image_score(loss: float, predicted: NDArray[np.uint8], labelled: NDArray[np.uint8], classes: int) -> ImageScore:
    overlaps = [foreground_overlap((predicted == index).view(np.uint8), (labelled == index).view(np.uint8)) for index in range(1, classes)]
    return ImageScore(loss, tuple(overlap.dice for overlap in overlaps), tuple(overlap.iou for overlap in overlaps))
