"""QTSeg assembled: encoder, feature distribution, dual-mix decoder (Tran et al., arXiv 2412.17241)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from qtseg_edge.model.decoder import DualMixDecoder
from qtseg_edge.model.encoder import CnnEncoder
from qtseg_edge.model.mlfd import FeatureDistribution

STRIDE = 32


@dataclass(frozen=True)
class NetworkConfig:
    """What is needed to build the network again. `depths` are the decoder blocks at strides 8, 16, 32."""

    width: int = 16
    classes: int = 2
    depths: tuple[int, int, int] = (1, 2, 3)
    heads: int = 8
    mlp_width: int = 2048


class QTSeg(nn.Module):
    """Normalised images (N, 3, H, W), sides multiples of 32 -> logits (N, K, H, W)."""

    def __init__(self, encoder: nn.Module, distribution: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.distribution = distribution
        self.decoder = decoder

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        if height % STRIDE or width % STRIDE:
            raise ValueError(f"image sides must be multiples of {STRIDE}, got {height}x{width}")
        return self.decoder(self.distribution(self.encoder(image)))  # type: ignore[no-any-return]


def build_network(config: NetworkConfig) -> QTSeg:
    """The paper's network with its convolutional encoder, randomly initialised."""
    encoder = CnnEncoder(config.width)
    distribution = FeatureDistribution(encoder.channels, config.width)
    decoder = DualMixDecoder(distribution.channels, config.classes, config.depths, config.heads, config.mlp_width)
    return QTSeg(encoder, distribution, decoder)
