"""Folders of labelled images whose scores are known, and backends that give known masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.runtime import Backend, FakeBackend, Masks
from qtseg_edge.runtime.fake import FAKE_CARD
from qtseg_edge.spec import ModelCard, ModelSpec

Uint8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]
SIZE_HW = (64, 96)
FOUR = ModelCard(
    "four", ("background", "polyp", "tool", "water"), ((0, 0, 0), (0, 200, 120), (230, 90, 60), (60, 90, 230)), SIZE_HW, "scale"
)


def fake(size_hw: tuple[int, int] = SIZE_HW, batch: int | None = 1) -> FakeBackend:
    """Marks what is red: the label of a picture is then known."""
    return FakeBackend(ModelSpec(replace(FAKE_CARD, size_hw=size_hw), size_hw, batch))


class Levels(Backend):
    """Four classes by the red of a pixel: below 60, 120, 180 and above."""

    def __init__(self, card: ModelCard = FOUR) -> None:
        self.name, self.spec = "levels", ModelSpec(card, card.size_hw)

    def _infer(self, image: Uint8) -> Masks:
        mask = np.minimum(image[..., 0] // 60, 3).astype(np.uint8)
        return Masks(mask, np.full_like(mask, 255))


class Answers(Backend):
    """Gives the same mask and confidence whatever it is shown, and counts the calls."""

    def __init__(self, marked: Bool, confidence: int = 255, threshold: float = 0.5) -> None:
        size_hw = (marked.shape[0], marked.shape[1])
        card = replace(FAKE_CARD, size_hw=size_hw, threshold=threshold)
        self.name, self.spec, self.calls = "answers", ModelSpec(card, size_hw), 0
        self._masks = Masks(marked.astype(np.uint8)[None], np.full((1, *size_hw), confidence, np.uint8))

    def _infer(self, image: Uint8) -> Masks:
        self.calls += 1
        return self._masks


def box(top: int, left: int, bottom: int, right: int, size_hw: tuple[int, int] = SIZE_HW) -> Bool:
    marked = np.zeros(size_hw, bool)
    marked[top:bottom, left:right] = True
    return marked


def red_where(marked: Bool) -> Uint8:
    """Of something: a picture of one colour would be no picture to the runtime."""
    rgb = np.full((*marked.shape, 3), 40, np.uint8)
    rgb[::2, :, 1] = 90
    rgb[marked, 0] = 250
    return rgb


def red_by_class(classes: Uint8) -> Uint8:
    rgb = np.full((*classes.shape, 3), 40, np.uint8)
    rgb[..., 0] = classes * 60 + 30
    rgb[::2, :, 1] = 90
    return rgb


def as_mask(marked: Bool) -> Uint8:
    return marked.astype(np.uint8) * 255


def split_of(folder: Path, pairs: dict[str, tuple[Uint8, Uint8]]) -> Path:
    """Each name with an RGB image and a mask, as lossless files."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for name, (rgb, mask) in pairs.items():
        cv2.imwrite(str(folder / "images" / f"{name}.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
    return folder


def marked_split(folder: Path, pairs: dict[str, tuple[Bool, Bool]]) -> Path:
    """Each name with what the fake backend will mark and what the label marks."""
    return split_of(folder, {name: (red_where(seen), as_mask(label)) for name, (seen, label) in pairs.items()})


def four_class_split(folder: Path, images: int = 5, seed: int = 0) -> tuple[Path, Uint8, Uint8]:
    """Images at network size with random masks of four classes; the split, what `Levels` predicts and the labels, (N, H, W)."""
    random = np.random.default_rng(seed)
    predicted, labelled = (random.choice(4, (images, *SIZE_HW), p=(0.7, 0.2, 0.07, 0.03)).astype(np.uint8) for _ in range(2))
    predicted[0][predicted[0] == 3] = labelled[0][labelled[0] == 3] = 0  # the first image has no water
    labelled[1][labelled[1] == 3] = 0  # in the second it is invented
    pairs = {f"{index:02}": (red_by_class(predicted[index]), labelled[index]) for index in range(images)}
    return split_of(folder, pairs), predicted, labelled
