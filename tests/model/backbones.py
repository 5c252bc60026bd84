"""Small backbones of the transformers library: as encoder configurations, and as folders of pretrained classifiers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

from qtseg_edge.model.backbone import BackboneConfig
from qtseg_edge.model.network import NetworkConfig

logging.disable_progress_bar()  # of save_pretrained, which only tests call

TINY_PVT: dict[str, Any] = {
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 3, 4],
    "mlp_ratios": [2, 2, 2, 2],
}
SMALL = NetworkConfig(width=4, classes=2, depths=(1, 1, 1), heads=2, mlp_width=8)


def tiny_pvt(**changed: Any) -> BackboneConfig:
    return BackboneConfig("pvt_v2", {**TINY_PVT, "out_indices": [1, 2, 3], **changed})


def with_backbone(backbone: BackboneConfig, network: NetworkConfig = SMALL) -> NetworkConfig:
    return replace(network, encoder=backbone.architecture, encoder_config=backbone.to_json())


def write_classifier(folder: Path, architecture: str = "pvt_v2", preprocessor: dict[str, Any] | None = None, **parameters: Any) -> Path:
    """What `save_pretrained` leaves of a trained classifier: config.json, model.safetensors and, where given, its preprocessor."""
    torch.manual_seed(3)
    config = transformers.CONFIG_MAPPING[architecture](**(parameters or TINY_PVT))
    model = transformers.AutoModelForImageClassification.from_config(config)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn_like(tensor) * 0.2)  # norms too, which begin alike in every model
    model.save_pretrained(folder)
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor), encoding="utf-8")
    return folder
