"""Where a new network gets its encoder from: an architecture by name, folder or hub, and weights to begin with."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from qtseg_edge.errors import IncompatibleError, MissingError, UsageError
from qtseg_edge.model.checkpoint import load_checkpoint
from qtseg_edge.model.network import CNN, NetworkConfig, QTSeg, build_encoder, build_network

PVT_V2_B0 = "pvt_v2_b0"
RANDOM = "random"
_PVT_V2_B0_WEIGHTS = "OpenGVLab/pvt_v2_b0"
_CHECKPOINTS = (".safetensors", ".pt", ".pth")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True)
class _Weights:
    """An encoder's tensors, and the configuration they were trained with."""

    source: str
    config: NetworkConfig
    state: dict[str, Tensor]


def network_with_encoder(config: NetworkConfig, encoder: str = CNN, weights: str | None = None) -> tuple[QTSeg, NetworkConfig]:
    """A new network and its configuration, `config` with the encoder filled in. All but the encoder is randomly initialised.

    encoder: `cnn`, `pvt_v2_b0`, or a folder or hub id (OWNER/NAME) that holds a backbone as transformers writes it.
    weights: a folder, a hub id, a checkpoint whose encoder is taken, or `random`. None: those published with the encoder; the CNN
    has none and starts randomly.
    Raises UsageError (no such source), MissingError (hub not reachable), IncompatibleError (no backbone with features at strides 8,
    16, 32, or weights of another one), ModuleNotFoundError (transformers is not installed).
    """
    config = _with_architecture(config, encoder)
    weights = weights or _published_weights(encoder)
    if weights == RANDOM:
        return build_network(config), config
    found = _checkpoint_weights(weights) if weights.endswith(_CHECKPOINTS) else _backbone_weights(config, weights)
    _require_fit(config, encoder, found)
    # What the tensors do not show, such as heads and normalisation, is taken from where they were trained.
    config = replace(config, encoder_config=found.config.encoder_config)
    network = build_network(config)
    network.encoder.load_state_dict(found.state)
    return network, config


def _with_architecture(config: NetworkConfig, encoder: str) -> NetworkConfig:
    if encoder == CNN:
        return replace(config, encoder=CNN, encoder_config="")
    from qtseg_edge.model.backbone import BackboneConfig

    named = encoder == PVT_V2_B0
    backbone = BackboneConfig.pvt_v2_b0() if named else BackboneConfig.from_folder(_folder("--encoder", encoder, ["*.json"]))
    return replace(config, encoder=backbone.architecture, encoder_config=backbone.to_json())


def _published_weights(encoder: str) -> str:
    return {CNN: RANDOM, PVT_V2_B0: _PVT_V2_B0_WEIGHTS}.get(encoder, encoder)


def _checkpoint_weights(path: str) -> _Weights:
    checkpoint = load_checkpoint(Path(path))
    return _Weights(path, checkpoint.config, checkpoint.network.encoder.state_dict())


def _backbone_weights(config: NetworkConfig, source: str) -> _Weights:
    if config.encoder == CNN:
        raise UsageError(f"--encoder-weights: the encoder {CNN} takes a checkpoint (.safetensors or .pt) or {RANDOM}, got {source!r}")
    from qtseg_edge.model.backbone import BackboneConfig, pretrained_state

    folder = _folder("--encoder-weights", source, ["*.json", "*.safetensors"])
    backbone = BackboneConfig.from_folder(folder)
    found = replace(config, encoder=backbone.architecture, encoder_config=backbone.to_json())
    return _Weights(source, found, pretrained_state(backbone, folder))


def _require_fit(config: NetworkConfig, encoder: str, found: _Weights) -> None:
    what = f"{found.source}: its encoder, {found.config.encoder}, does not fit --encoder {encoder}"
    if found.config.encoder != config.encoder:
        raise IncompatibleError(f"{what}; give weights of {config.encoder}, or --encoder-weights {RANDOM}")
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in build_encoder(config).state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in found.state.items()}
    if wrong := sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name)):
        first = f"wanted {wanted.get(wrong[0], 'none')}, got {got.get(wrong[0], 'none')}"
        raise IncompatibleError(f"{what}: {len(wrong)} tensors differ, first {wrong[0]}: {first}")


def _folder(option: str, source: str, patterns: list[str]) -> Path:
    """The folder itself, or one in the hub's cache with the files that match."""
    if source and Path(source).is_dir():
        return Path(source)
    if not _HUB_ID.fullmatch(source):
        raise UsageError(f"{option}: wanted a folder with config.json and model.safetensors, or a hub id OWNER/NAME; got {source!r}")
    from qtseg_edge.model.backbone import hub_folder

    try:
        return hub_folder(source, patterns)
    except MissingError as error:
        raise MissingError(
            f"{source}: no such folder, and {error}; where there is a network: hf download {source} --local-dir FOLDER, "
            f"then give --encoder-weights FOLDER, or start with --encoder-weights {RANDOM}"
        ) from error
