"""Does an exported graph give the masks that the checkpoint gives? Asked on real images before a file takes its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from qtseg_edge.data import read_image
from qtseg_edge.errors import GateError
from qtseg_edge.metrics import agreement
from qtseg_edge.model.checkpoint import Checkpoint
from qtseg_edge.model.deployed import FrameToMask
from qtseg_edge.spec import ModelSpec
from qtseg_edge.transforms import Letterbox

Uint8 = NDArray[np.uint8]
LEAST_AGREEMENT = 0.9999
MOST_CONFIDENCE_LEVELS = 1


@dataclass(frozen=True)
class Parity:
    """mask_agreement: share of equal pixels over all images. confidence_levels: largest difference, 0..255, where masks agree."""

    images: int
    mask_agreement: float
    confidence_levels: int

    def require(self) -> None:
        if self.mask_agreement < LEAST_AGREEMENT or self.confidence_levels > MOST_CONFIDENCE_LEVELS:
            raise GateError(
                f"export: ONNX and torch disagree on {self.images} images: mask agreement {self.mask_agreement:.4%} "
                f"(wanted >= {LEAST_AGREEMENT:.2%}), confidence off by {self.confidence_levels} levels "
                f"(wanted <= {MOST_CONFIDENCE_LEVELS}); nothing was written"
            )


def compare_with_torch(onnx_path: Path, checkpoint: Checkpoint, spec: ModelSpec, images: list[Path]) -> Parity:
    """Run every image through ONNX Runtime and torch, in batches of what the graph takes."""
    frames = np.stack([_letterboxed(path, spec) for path in images])
    batch = spec.batch or min(3, len(frames))
    module = FrameToMask(checkpoint.network, spec.classes, checkpoint.card.normalisation).eval()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])
    shares, levels = [], 0
    for first in range(0, len(frames), batch):
        real = len(frames[first : first + batch])
        chunk = _padded(frames[first : first + batch], batch)
        with torch.inference_mode():
            mask, confidence = (tensor.numpy() for tensor in module(torch.from_numpy(chunk)))
        onnx_mask, onnx_confidence = session.run(["mask", "confidence"], {"image": chunk})
        shares += [agreement(mask[n], onnx_mask[n]) for n in range(real)]
        same = mask[:real] == onnx_mask[:real]
        differences = np.abs(confidence[:real].astype(np.int16) - onnx_confidence[:real].astype(np.int16))[same]
        levels = max(levels, int(differences.max(initial=0)))
    return Parity(len(frames), float(np.mean(shares)), levels)


def _letterboxed(path: Path, spec: ModelSpec) -> Uint8:
    image = read_image(path)
    return Letterbox((image.shape[0], image.shape[1]), spec.size_hw).frame(image)


def _padded(frames: Uint8, batch: int) -> Uint8:
    """A last, short batch is filled by repeating its last image."""
    missing = batch - len(frames)
    return np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)]) if missing else frames
