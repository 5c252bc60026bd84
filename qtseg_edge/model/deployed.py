"""The deployed graph: a frame goes in, a mask and its confidence come out. Exported to ONNX and run by the torch backend.

The order of operations is what TensorRT accepts: a cast right after the uint8 input, float right before the uint8 outputs, and a
comparison instead of ArgMax for two classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qtseg_edge.model.network import QTSeg
from qtseg_edge.model.normalise import normalise
from qtseg_edge.spec import Normalisation


class FrameToMask(nn.Module):
    """image uint8 (N, H, W, 3) RGB, letterboxed -> mask uint8 (N, H, W) class index, confidence uint8 (N, H, W).

    confidence is the probability of the pixel's class x 255, rounded. network: the plain one, or the rewritten one that is exported,
    which for two classes gives the difference of their logits alone.
    """

    def __init__(self, network: QTSeg, classes: int, normalisation: Normalisation) -> None:
        super().__init__()
        self.network = network
        self.classes = classes
        self.normalisation = normalisation

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        pixels = normalise(image.float(), self.normalisation)  # (N, H, W, 3)
        logits = self.network(pixels.permute(0, 3, 1, 2))  # (N, K, H, W)
        mask, probability = self._two_classes(logits) if self.classes == 2 else self._many_classes(logits)
        return mask.to(torch.uint8), (probability * 255 + 0.5).to(torch.uint8)

    @staticmethod
    def _two_classes(logits: Tensor) -> tuple[Tensor, Tensor]:
        difference = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]  # (N, H, W)
        mask = torch.where(difference > 0, 1.0, 0.0)
        return mask, difference.abs().sigmoid()

    @staticmethod
    def _many_classes(logits: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = logits.softmax(dim=1)  # (N, K, H, W)
        return probabilities.argmax(dim=1).float(), probabilities.amax(dim=1)
