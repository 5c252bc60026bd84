"""Checkpoints of the authors' implementation (v0.3.1): their keys and files mapped to ours, strictly.

`weight_best_*.pt` are bare state dicts, `weight_last.pt` holds one under `state_dict_model`; `cfg.json` lies beside them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qtseg_edge.errors import IncompatibleError
from qtseg_edge.model.network import NetworkConfig

_ENCODER = {
    "stem.0": "conv_0",
    "stem.1": "conv_1",
    "stem.2": "c2f_2",
    "stride8.0": "conv_3",
    "stride8.1": "c2f_4",
    "stride16.0": "conv_5",
    "stride16.1": "c2f_6",
    "stride32.0": "conv_7",
    "stride32.1": "c2f_8",
    "stride32.2": "sppf_9",
    "top_down16": "c2f_12",
    "top_down8": "c2f_15",
    "down16": "conv_16",
    "bottom_up16": "c2f_18",
    "down32": "conv_19",
    "bottom_up32": "c2f_21",
}
_INSIDE_ENCODER = {"split": "cv1", "reduce": "cv1", "merge": "cv2", "bottlenecks": "m", "first": "cv1", "second": "cv2", "norm": "bn"}
_INSIDE_BLOCK = {
    "spatial.conv": "dm_attention.spatial_attention.cv1",
    "channel.gamma": "dm_attention.channel_attention.gamma",
    "attend_spatial": "dm_attention.spatial_token_mix_attention",
    "attend_channel": "dm_attention.channel_token_mix_attention",
    "mix_norm": "dm_attention.token_layernorm",
    "mlp.0": "token_mlp.lin1",
    "mlp.2": "token_mlp.lin2",
    "mlp.3": "token_layernorm",
    "attend_tokens": "feature_mix",
}
_PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}
_UP = {"conv": "0", "norm": "1", "0.conv": "0", "0.norm": "1", "1.conv": "3", "1.norm": "4"}


def config_from_authors(path: Path) -> tuple[NetworkConfig, int]:
    """Read `cfg.json`. Returns the network's configuration and the image side it was trained at."""
    wanted = "n_channel, num_classes, encoder_out_features, mask_depths, mask_num_head, mask_mlp_dim, img_size"
    try:
        cfg: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        d0, d1, d2 = (int(depth) for depth in cfg["mask_depths"])
        config = NetworkConfig(
            int(cfg["n_channel"]), int(cfg["num_classes"]), (d0, d1, d2), int(cfg["mask_num_head"]), int(cfg["mask_mlp_dim"])
        )
        features, side = [int(c) for c in cfg["encoder_out_features"]], int(cfg["img_size"])
    except FileNotFoundError as error:
        raise IncompatibleError(f"{path}: not there; an authors' checkpoint needs its cfg.json beside it ({wanted})") from error
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise IncompatibleError(f"{path}: wanted JSON with {wanted}; got {type(error).__name__}: {error}") from error
    n = config.width
    if features != [4 * n, 8 * n, 16 * n]:
        raise IncompatibleError(f"{path}: encoder_out_features must be {[4 * n, 8 * n, 16 * n]} for n_channel {n}, got {features}")
    return config, side


def state_from_authors(theirs: dict[str, Tensor], ours: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Rename every tensor. `ours` is the built network's state dict and says which names and shapes there must be."""
    state: dict[str, Tensor] = {}
    tokens = ours["decoder.tokens"].shape[0]
    used: set[str] = set()
    missing: list[str] = []
    for name, tensor in ours.items():
        keys = authors_keys(name, tokens)
        used.update(keys)
        if absent := [key for key in keys if key not in theirs]:
            missing += absent
            continue
        parts = [theirs[key] for key in keys]
        if ".token_mlp." in name:
            state[name] = _stacked_token_mlp(parts, tensor)
        else:
            state[name] = parts[0]
    unknown = sorted(set(theirs) - used)
    if missing or unknown:
        raise IncompatibleError(f"{source}: {_summary('lacks', missing)}{_summary('has unknown', unknown)}it does not fit its cfg.json")
    return state


def authors_keys(name: str, tokens: int) -> list[str]:
    """The authors' key for one of our names; one per token for the per-token MLPs, which we keep stacked."""
    part, rest = name.split(".", 1) if "." in name else (name, "")
    if part == "encoder":
        ours = next(prefix for prefix in _ENCODER if rest.startswith(prefix + "."))
        inner = [_INSIDE_ENCODER.get(word, word) for word in rest[len(ours) + 1 :].split(".")]
        return [f"image_encoder.{_ENCODER[ours]}.{'.'.join(inner)}"]
    if part == "distribution":
        level, source, layer, leaf = re.fullmatch(r"level(\d)\.(\d)\.(\w+)\.(\w+)", rest).groups()  # type: ignore[union-attr]
        is_up = int(source) > int(level)
        layer = {"norm": "bn", "conv": "conv_transpose" if is_up else "conv"}[layer]
        return [f"bridge.neck_{level}_{source}.{layer}.{leaf}"]
    if rest == "tokens":
        return ["mask_decoder.mask_tokens.weight"]
    return [f"mask_decoder.{key}" for key in _stage_keys(rest, tokens)]


def _stage_keys(name: str, tokens: int) -> list[str]:
    level, rest = re.fullmatch(r"stage(\d)\.(.+)", name).groups()  # type: ignore[union-attr]
    if rest == "positional.gaussian":
        return [f"PE_s{level}.positional_encoding_gaussian_matrix"]
    if found := re.fullmatch(r"token_mlp\.(weight|bias)(?:s|es)\.(\d)", rest):
        return [f"MLP_s{level}.{token}.layers.{found[2]}.{found[1]}" for token in range(tokens)]
    path, leaf = rest.rsplit(".", 1)
    if path.startswith("up."):
        return [f"SUB_s{level}.{_UP[path.removeprefix('up.')]}.{leaf}"]
    if path == "last_norm":
        return [f"DMAB_s{level}.norm_final_attn.{leaf}"]
    if path.startswith("last_attention."):
        return [f"DMAB_s{level}.final_attn_token_to_image.{_PROJECTIONS[path.split('.')[1]]}.{leaf}"]
    block, inner = re.fullmatch(r"blocks\.(\d+)\.(.+)", rest).groups()  # type: ignore[union-attr]
    ours = next(prefix for prefix in _INSIDE_BLOCK if inner == prefix or inner.startswith(prefix + "."))
    tail = [_PROJECTIONS.get(word, word) for word in inner[len(ours) + 1 :].split(".") if word]
    return [f"DMAB_s{level}.layers.{block}." + ".".join([_INSIDE_BLOCK[ours], *tail])]


def _stacked_token_mlp(parts: list[Tensor], like: Tensor) -> Tensor:
    """Per token (out, in) weights or (out,) biases -> (K, in, out) or (K, 1, out)."""
    if len({part.shape for part in parts}) != 1:
        return torch.empty(0)  # no shape fits: reported with the others when the state is loaded
    stacked = torch.stack(parts)
    return stacked.transpose(1, 2) if stacked.dim() == 3 else stacked.reshape(like.shape[0], 1, -1)


def _summary(verb: str, keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{verb} {', '.join(keys[:3])}{more}; " if keys else ""
