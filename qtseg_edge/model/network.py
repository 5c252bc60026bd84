"""QTSeg assembled: encoder, feature distribution, dual-mix decoder (Tran et al., arXiv 2412.17241)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from qtseg_edge.model.decoder import DualMixDecoder
from qtseg_edge.model.encoder import CnnEncoder
from qtseg_edge.model.mlfd import FeatureDistribution

if TYPE_CHECKING:
    from qtseg_edge.model.backbone import BackboneEncoder

STRIDE = 32
CNN = "cnn"
_LARGEST = 1 << 14


@dataclass(frozen=True)
class NetworkConfig:
    """What is needed to build the network again. `depths` are the decoder blocks at strides 8, 16, 32.

    encoder: `cnn` (of this width), or the name transformers has for a backbone's architecture; then encoder_config is the JSON text
    of its BackboneConfig. model/pretrained.py fills in both.
    """

    width: int = 16
    classes: int = 2
    depths: tuple[int, int, int] = (1, 2, 3)
    heads: int = 8
    mlp_width: int = 2048
    encoder: str = CNN
    encoder_config: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for what no network can be built from."""
        if len(self.depths) != 3:
            raise ValueError(f"depths must be three numbers, got {self.depths}")
        for name, value in [
            *((name, getattr(self, name)) for name in ("width", "classes", "heads", "mlp_width")),
            *(("depths", d) for d in self.depths),
        ]:
            if type(value) is not int or not 1 <= value <= _LARGEST:
                raise ValueError(f"{name} must be a whole number from 1 to {_LARGEST}, got {value!r}")
        if self.classes < 2:
            raise ValueError(f"classes must be at least 2, background included, got {self.classes}")
        if 2 * self.width % self.heads:
            raise ValueError(f"heads must divide {2 * self.width}, half the channels of the finest level, got {self.heads}")
        texts = isinstance(self.encoder, str) and isinstance(self.encoder_config, str)
        if not texts or (self.encoder == CNN) != (self.encoder_config == ""):
            raise ValueError(f"encoder must be {CNN!r} without encoder_config, or a backbone's name with one, got {self.encoder!r}")


def network_config_from(fields: dict[str, Any]) -> NetworkConfig:
    """From a JSON object. Raises ValueError, TypeError or KeyError where it describes no network."""
    return NetworkConfig(**{**fields, "depths": tuple(fields["depths"])})


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
    """The paper's network with the encoder of `config`, randomly initialised. Raises IncompatibleError for a backbone that does not fit."""
    encoder = build_encoder(config)
    distribution = FeatureDistribution(encoder.channels, config.width)
    decoder = DualMixDecoder(distribution.channels, config.classes, config.depths, config.heads, config.mlp_width)
    return QTSeg(encoder, distribution, decoder)


def build_encoder(config: NetworkConfig) -> CnnEncoder | BackboneEncoder:
    """Randomly initialised."""
    if config.encoder == CNN:
        return CnnEncoder(config.width)
    from qtseg_edge.model.backbone import BackboneConfig, BackboneEncoder  # transformers need not be there for the others

    return BackboneEncoder(BackboneConfig.from_json(config.encoder, config.encoder_config))
