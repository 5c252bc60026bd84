"""Validation scores of a network in training: float32, per image at the deployed side, averaged as `qtseg-edge evaluate` does."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from qtseg_edge.errors import QtsegError
from qtseg_edge.metrics import image_scores
from qtseg_edge.model.network import QTSeg
from qtseg_edge.model.normalise import normalise
from qtseg_edge.spec import Normalisation
from qtseg_edge.training.images import Images
from qtseg_edge.training.losses import segmentation_loss
from qtseg_edge.training.processes import Processes

_BATCH = 4


class _ImageScore(NamedTuple):
    """dice and iou: nan for an image of several classes that shows none of them, rightly."""

    loss: float
    dice: float
    iou: float


@torch.inference_mode()
def score(network: QTSeg, images: Images, classes: int, how: Normalisation, processes: Processes) -> dict[str, float]:
    """val_loss, val_dice and val_iou: means over the images, whose work the processes share. Of several classes, all together."""
    own = torch.arange(processes.rank, len(images), processes.world)
    scores: list[_ImageScore] = []
    for indices in own.split(_BATCH):
        frames, masks = images.batch(indices, processes.device)
        logits = network(normalise(frames * 255, how))
        predicted = logits.argmax(dim=1).byte().cpu().numpy()  # (N, S, S)
        labelled = images.masks[indices].numpy()
        for index in range(len(indices)):
            loss = segmentation_loss(logits[index : index + 1], masks[index : index + 1, 0].long()).item()
            if not math.isfinite(loss):
                raise QtsegError(f"the loss became {loss} on {images.names[int(indices[index])]} of the validation images: lower --lr")
            found = image_scores(predicted[index], labelled[index], classes)[-1]
            scores.append(_ImageScore(loss, found.dice, found.iou))
    means = np.nanmean(processes.gathered(scores), axis=0)
    return dict(zip(("val_loss", "val_dice", "val_iou"), map(float, means), strict=True))
