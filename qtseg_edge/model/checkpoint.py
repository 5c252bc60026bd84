"""Checkpoints: ours (`.safetensors`, configuration and card in its header) and the authors' (`.pt` with `cfg.json`).

Nothing is unpickled: `.pt` files are read with `weights_only=True`.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qtseg_edge.errors import IncompatibleError, QtsegError, UsageError
from qtseg_edge.files import replacing
from qtseg_edge.model.foreign import config_from_authors, state_from_authors
from qtseg_edge.model.layers import absorb_norms
from qtseg_edge.model.network import CNN, NetworkConfig, QTSeg, build_network, network_config_from
from qtseg_edge.spec import CARD_KEY, ModelCard, class_colours

NETWORK_KEY = "qtseg_edge.network"


@dataclass(frozen=True)
class Checkpoint:
    """A network in evaluation mode, in float32 on the CPU, with what is needed to build and deploy it again."""

    network: QTSeg
    config: NetworkConfig
    card: ModelCard
    sha256: str


def load_checkpoint(path: Path) -> Checkpoint:
    """Read either kind. Every key and shape must fit; a file that does not raises IncompatibleError."""
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint; give a .safetensors file of qtseg-edge train or an authors' .pt file")
    if path.suffix == ".safetensors":
        config, card, state = _read_own(path)
    else:
        config, card, state = _read_authors(path)
    _require_fit(config, state, path)
    network = build_network(config)
    network.load_state_dict(state)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Checkpoint(network.eval(), config, card, digest)


def save_checkpoint(path: Path, network: QTSeg, config: NetworkConfig, card: ModelCard, dtype: torch.dtype = torch.float32) -> None:
    """Write `.safetensors` under a temporary name and rename it.

    dtype float16 halves the file: norms keep float32 and give their multiplier to the weights first (`absorb_norms`), so that an
    ONNX file with float16 weights made from it is exact.
    """
    if dtype != torch.float32:
        network = copy.deepcopy(network)
        absorb_norms(network)
    state = {name: _stored(name, tensor, dtype) for name, tensor in network.state_dict().items()}
    header = {NETWORK_KEY: json.dumps(asdict(config)), CARD_KEY: card.to_json()}
    with replacing(path) as temporary:
        try:
            save_file(state, temporary, metadata=header)
        except SafetensorError as error:  # how it reports a full disk
            raise QtsegError(f"{path}: cannot be written ({error}); what was there is kept") from error


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    foreign_norm = name.startswith("encoder.backbone.") and tensor.dim() < 2  # whatever a backbone calls its norms and their statistics
    keep = not tensor.is_floating_point() or ".norm." in name or name.endswith("gaussian") or foreign_norm
    return tensor.detach().cpu().contiguous() if keep else tensor.detach().cpu().to(dtype).contiguous()


def _read_own(path: Path) -> tuple[NetworkConfig, ModelCard, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise IncompatibleError(f"{path}: not a safetensors checkpoint ({error})") from error
    if NETWORK_KEY not in header or CARD_KEY not in header:
        raise IncompatibleError(
            f"{path}: safetensors without {NETWORK_KEY} and {CARD_KEY} in its header; only files of qtseg-edge have them"
        )
    try:
        config = network_config_from(json.loads(header[NETWORK_KEY]))
    except (ValueError, TypeError, KeyError) as error:
        raise IncompatibleError(f"{path}: {NETWORK_KEY} is not readable ({error})") from error
    card = ModelCard.from_json(header[CARD_KEY])
    if len(card.classes) != config.classes:
        raise IncompatibleError(f"{path}: its card names {len(card.classes)} classes, its network has {config.classes}")
    return config, card, state


def _read_authors(path: Path) -> tuple[NetworkConfig, ModelCard, dict[str, Tensor]]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what the restricted unpickler raises on arbitrary bytes has no common base
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise IncompatibleError(f"{path}: not a checkpoint that can be read safely ({first_line[:120]})") from error
    state = loaded.get("state_dict_model", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict) or not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise IncompatibleError(f"{path}: wanted a state dict of tensors, got {type(state).__name__} without them")
    config, side = config_from_authors(path.with_name("cfg.json"))
    renamed = state_from_authors(state, _expected(config), path)
    names = ("background", "foreground") if config.classes == 2 else ("background", *(f"class {k}" for k in range(1, config.classes)))
    colours = class_colours(config.classes)
    card = ModelCard(path.stem, names, colours, (side, side), "minmax", training="authors' checkpoint, QTSeg v0.3.1 format")
    return config, card, renamed


def _expected(config: NetworkConfig) -> dict[str, Tensor]:
    """Names and shapes without memory: a wrong width must not ask for gigabytes before it is found out."""
    with torch.device("meta"):
        return build_network(config).state_dict()


def _require_fit(config: NetworkConfig, state: dict[str, Tensor], path: Path) -> None:
    try:
        expected = _expected(config)
    except IncompatibleError as error:
        raise IncompatibleError(f"{path}: {error}") from error
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        what = f"lacks {missing[0]}" if missing else f"has unknown {unknown[0]}"
        raise IncompatibleError(
            f"{path}: {len(missing)} keys missing, {len(unknown)} unknown ({what}); "
            f"it does not fit its own configuration{_renamed_since(config)}"
        )
    wrong = [name for name in expected if expected[name].shape != state[name].shape]
    if wrong:
        name = wrong[0]
        raise IncompatibleError(
            f"{path}: {len(wrong)} tensors of the wrong shape, first {name}: "
            f"wanted {tuple(expected[name].shape)}, got {tuple(state[name].shape)}{_renamed_since(config)}"
        )


def _renamed_since(config: NetworkConfig) -> str:
    if config.encoder == CNN:
        return ""
    from qtseg_edge.model.backbone import BackboneConfig

    return BackboneConfig.from_json(config.encoder, config.encoder_config).renamed_since()
