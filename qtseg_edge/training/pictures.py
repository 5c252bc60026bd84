"""What training sees, and what the network makes of the validation images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qtseg_edge.contact_sheet import LABEL, PREDICTION, Style, Tile, contact_sheet
from qtseg_edge.files import replacing
from qtseg_edge.metrics import foreground_overlap
from qtseg_edge.model.network import QTSeg
from qtseg_edge.model.normalise import normalise
from qtseg_edge.spec import ModelCard
from qtseg_edge.training.augmentation import Augmentation
from qtseg_edge.training.images import Images

_SHOWN = 8
Uint8 = NDArray[np.uint8]


@torch.inference_mode()
def write_validation(path: Path, network: QTSeg, images: Images, card: ModelCard, epoch: int) -> None:
    """Eight validation images, evenly chosen, with label and prediction."""
    chosen = torch.linspace(0, len(images) - 1, min(_SHOWN, len(images))).long()
    tiles = []
    for index in chosen.tolist():
        frames, masks = images.batch(torch.tensor([index]), next(network.parameters()).device)
        predicted = network(normalise(frames * 255, card.normalisation))[0].argmax(dim=0).byte().cpu().numpy()
        labelled = masks[0, 0].byte().cpu().numpy()
        outlines = [
            (source == k, style) for k in range(1, len(card.classes)) for source, style in ((labelled, LABEL), (predicted, PREDICTION))
        ]
        dice = foreground_overlap(predicted, labelled).dice
        tiles.append(Tile(images.frames[index].numpy(), tuple(outlines), (images.names[index], f"foreground: Dice {100 * dice:.1f}")))
    title = f"{card.name}: {len(tiles)} of {len(images)} validation images, epoch {epoch}"
    _write(path, contact_sheet(tiles, (LABEL, PREDICTION), title))


def write_preview(path: Path, images: Images, augmentation: Augmentation, card: ModelCard, seed: int) -> None:
    """The images as augmentation hands them to the network, outlined in the colours of their classes."""
    torch.manual_seed(seed)
    augmented, labels = augmentation(*images.batch(torch.arange(len(images)), torch.device("cpu")))
    styles = [Style(name, colour, 2) for name, colour in zip(card.classes, card.colours_rgb, strict=True)][1:]
    tiles = [
        Tile(_pixels(image), tuple((label[0].byte().numpy() == k, style) for k, style in enumerate(styles, 1)), (name,))
        for image, label, name in zip(augmented, labels, images.names, strict=True)
    ]
    _write(path, contact_sheet(tiles, styles, f"{len(tiles)} training images as the network sees them"))


def _pixels(image: Tensor) -> Uint8:
    """(3, H, W) float 0..1 -> (H, W, 3) uint8."""
    return (image * 255).round().byte().permute(1, 2, 0).numpy()


def _write(path: Path, png: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(png)
