"""A split in memory, at the sides a run needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qtseg_edge.data import labelled_images, read_labelled_image, read_mask
from qtseg_edge.errors import QtsegError
from qtseg_edge.transforms import Letterbox


@dataclass(frozen=True)
class Images:
    """frames (M, S, S, 3) and masks (M, S, S) of class indices, both uint8, letterboxed as the deployed model sees them."""

    names: tuple[str, ...]
    frames: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.names)

    @property
    def side(self) -> int:
        return int(self.frames.shape[1])

    @classmethod
    def read(cls, split: Path, side: int, classes: int, at_most: int | None = None) -> Images:
        """at_most: only so many, evenly chosen."""
        pairs = labelled_images(split)
        if at_most is not None and at_most < len(pairs):
            pairs = [pairs[index] for index in np.linspace(0, len(pairs) - 1, at_most).round().astype(int)]
        frames = np.empty((len(pairs), side, side, 3), np.uint8)
        masks = np.empty((len(pairs), side, side), np.uint8)
        for index, pair in enumerate(pairs):
            mask = read_mask(pair.mask, classes)
            image = read_labelled_image(pair.image)
            if image.shape[:2] != mask.shape:
                sizes = f"mask of {mask.shape[1]}x{mask.shape[0]} for an image of {image.shape[1]}x{image.shape[0]}"
                raise QtsegError(f"{pair.mask}: {sizes}")
            letterbox = Letterbox((mask.shape[0], mask.shape[1]), (side, side))
            frames[index] = letterbox.frame(image)
            masks[index] = letterbox.mask(mask)
        return cls(tuple(pair.image.name for pair in pairs), torch.from_numpy(frames), torch.from_numpy(masks))

    def resized(self, side: int) -> Images:
        if side == self.side:
            return self
        letterbox = Letterbox((self.side, self.side), (side, side))
        frames = np.stack([letterbox.frame(frame) for frame in self.frames.numpy()])
        masks = np.stack([letterbox.mask(mask) for mask in self.masks.numpy()])
        return Images(self.names, torch.from_numpy(frames), torch.from_numpy(masks))

    def batch(self, indices: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """-> images (N, 3, S, S) float 0..1 and masks (N, 1, S, S) float of class indices, on the device."""
        frames, masks = self.frames[indices].to(device), self.masks[indices].to(device)
        return frames.permute(0, 3, 1, 2).float() / 255, masks[:, None].float()
