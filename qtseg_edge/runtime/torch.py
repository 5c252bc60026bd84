"""PyTorch, eager, from a checkpoint: the reference that every other backend is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError
from qtseg_edge.model.checkpoint import load_checkpoint
from qtseg_edge.model.deployed import FrameToMask
from qtseg_edge.runtime.backend import Backend, Masks
from qtseg_edge.spec import ModelSpec


class TorchBackend(Backend):
    def __init__(self, checkpoint_path: Path) -> None:
        checkpoint = load_checkpoint(checkpoint_path)
        card = checkpoint.card
        self.name = "torch"
        self.spec = ModelSpec(card, card.size_hw, None, checkpoint.sha256)
        self._module: FrameToMask | None = FrameToMask(checkpoint.network, self.spec.classes, card.normalisation).eval()

    @torch.inference_mode()
    def _infer(self, image: NDArray[np.uint8]) -> Masks:
        if self._module is None:
            raise QtsegError("torch: the backend is closed")
        try:
            mask, confidence = self._module(torch.from_numpy(image))
        except RuntimeError as error:
            raise QtsegError(f"{self.name}: inference failed ({str(error).splitlines()[0][:200]})") from error
        return Masks(mask.numpy(), confidence.numpy())

    def close(self) -> None:
        self._module = None
