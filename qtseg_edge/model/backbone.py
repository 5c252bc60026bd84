"""A backbone of the transformers library as encoder: PVTv2, Swin, ConvNeXt and every other with features at strides 8, 16 and 32.

Only this file imports transformers, and it is imported only for a network that has such an encoder. A backbone is built from its
hyper-parameters alone: no code of a model repository, no attention kernel and no pickle that a configuration may name is ever used.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers.utils import logging

from qtseg_edge.errors import IncompatibleError, MissingError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_STRIDES = (8, 16, 32)
_PROBE_HW = (64, 96)  # the smallest that tells height from width at stride 32
_LARGEST = 1 << 14
_HUB_SECONDS = 10.0
_NORMS_OF_OUTPUTS = "hidden_states_norms."  # made where a stage is an output: a classifier was trained without them


@dataclass(frozen=True)
class BackboneConfig:
    """What builds a backbone again, without network and without the folder it came from.

    architecture: transformers' `model_type`. parameters: the hyper-parameters of that architecture, numbers, texts and lists.
    mean, std: of pixels in 0..1, as the backbone was trained. transformers: the version whose names its weights carry.
    """

    architecture: str
    parameters: dict[str, Any]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    transformers: str = transformers.__version__

    def __post_init__(self) -> None:
        """Raises IncompatibleError for what no backbone can be built from."""
        unknown = sorted(self.parameters.keys() - _parameter_names(self.architecture))
        if unknown:
            raise IncompatibleError(f"encoder {self.architecture}: {', '.join(unknown[:3])} is no hyper-parameter of it")
        wrong = sorted(name for name, value in self.parameters.items() if not _is_plain(value))
        if wrong:
            raise IncompatibleError(f"encoder {self.architecture}: {wrong[0]} must be a number up to {_LARGEST}, a text or a list of them")
        if not re.fullmatch(r"\d[\w.]*", self.transformers):  # it ends up in a command that a message proposes
            raise IncompatibleError(f"encoder {self.architecture}: wanted a version of transformers, got {self.transformers!r}")
        if not (len(self.mean) == len(self.std) == 3 and all(map(math.isfinite, self.mean)) and all(0 < s < math.inf for s in self.std)):
            raise IncompatibleError(f"encoder {self.architecture}: wanted mean and std of three channels, got {self.mean} and {self.std}")

    def to_json(self) -> str:
        """All but the architecture, which stands beside it in NetworkConfig."""
        return json.dumps({name: value for name, value in asdict(self).items() if name != "architecture"}, sort_keys=True)

    @classmethod
    def from_json(cls, architecture: str, text: str) -> BackboneConfig:
        """Raises IncompatibleError for anything but what `to_json` writes."""
        try:
            fields = json.loads(text)
            return cls(architecture, dict(fields.pop("parameters")), tuple(fields.pop("mean")), tuple(fields.pop("std")), **fields)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise IncompatibleError(f"encoder {architecture}: its configuration is not readable ({error})") from error

    def renamed_since(self) -> str:
        """For the end of a message: transformers renames tensors from version to version."""
        here = transformers.__version__
        written = f"; it was written with transformers {self.transformers}, here is {here}: pip install transformers=={self.transformers}"
        return "" if self.transformers == here else written

    @classmethod
    def from_folder(cls, folder: Path) -> BackboneConfig:
        """From `config.json`, and `preprocessor_config.json` where there is one. The last stage of each stride becomes an output."""
        document = _read_json(folder / "config.json")
        architecture = str(document.get("model_type"))
        names = _parameter_names(architecture)
        try:
            parsed = _config_class(architecture).from_dict(document)
            stages = [index for index, name in enumerate(parsed.stage_names) if name != "stem"]
            known = json.loads(json.dumps(parsed.to_dict(), default=str))
        except Exception as error:  # each architecture checks its configuration in its own way
            raise IncompatibleError(f"{folder / 'config.json'}: no configuration of {architecture} ({_line(error)})") from error
        parameters = {name: value for name, value in known.items() if name in names}
        everywhere = cls(architecture, {**parameters, "out_indices": stages}, *_mean_and_std(folder / "preprocessor_config.json"))
        stage_of = dict(zip([stride for _, stride in _features(everywhere)], stages, strict=True))
        outputs = [stage_of[(stride, stride)] for stride in _STRIDES if (stride, stride) in stage_of]
        _require_strides(architecture, list(stage_of), len(outputs) == 3)
        return replace(everywhere, parameters={**everywhere.parameters, "out_indices": outputs})

    @classmethod
    def pvt_v2_b0(cls) -> BackboneConfig:
        """The smallest PVTv2 as published (Wang et al., arXiv 2106.13797)."""
        parameters = {
            "hidden_sizes": [32, 64, 160, 256],
            "depths": [2, 2, 2, 2],
            "num_attention_heads": [1, 2, 5, 8],
            "sr_ratios": [8, 4, 2, 1],
            "mlp_ratios": [8, 8, 4, 4],
            "patch_sizes": [7, 3, 3, 3],
            "strides": [4, 2, 2, 2],
            "linear_attention": False,
            "qkv_bias": True,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "out_indices": [1, 2, 3],
        }
        return cls("pvt_v2", parameters)


class BackboneEncoder(nn.Module):
    """Images (N, 3, H, W) in -1..1 -> features at strides 8, 16, 32 with `channels` channels."""

    scale: Tensor
    shift: Tensor

    def __init__(self, config: BackboneConfig) -> None:
        """Randomly initialised. Raises IncompatibleError where the backbone gives anything but strides 8, 16, 32."""
        super().__init__()
        features = _features(config)
        strides = [stride for _, stride in features]
        _require_strides(config.architecture, strides, strides == [(stride, stride) for stride in _STRIDES])
        c3, c4, c5 = (channels for channels, _ in features)
        self.channels = (c3, c4, c5)
        self.backbone = _random_backbone(config)
        # QTSeg's -1..1 to the mean and deviation that the backbone was trained with: ((x + 1) / 2 - mean) / std.
        mean, std = torch.tensor(config.mean).view(1, 3, 1, 1), torch.tensor(config.std).view(1, 3, 1, 1)
        self.register_buffer("scale", 0.5 / std, persistent=False)
        self.register_buffer("shift", (0.5 - mean) / std, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p3, p4, p5 = self.backbone(image * self.scale + self.shift).feature_maps
        return p3, p4, p5


def pretrained_state(config: BackboneConfig, folder: Path) -> dict[str, Tensor]:
    """The weights in `folder`, by their names in a BackboneEncoder, float32. Only safetensors; a classifier's head is left out.

    Raises IncompatibleError where a tensor is missing, has another shape, or the file is none.
    """
    built = _transformers_config(config)
    try:
        with _quiet():
            backbone, report = _backbone_class(built).from_pretrained(
                folder, config=built, use_safetensors=True, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # a missing file, a broken one and a wrong shape have no common base
        wanted = f"wanted weights of {config.architecture} in model.safetensors, as save_pretrained writes them"
        raise IncompatibleError(f"{folder}: {wanted}; got: {_line(error)}") from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(_NORMS_OF_OUTPUTS))
    if missing:
        raise IncompatibleError(f"{folder}: {len(missing)} tensors of {config.architecture} are missing, first {missing[0]}")
    return {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}


def hub_folder(name: str, patterns: list[str]) -> Path:
    """A folder in the hub's cache with the files that match. Raises MissingError where the hub does not give them."""
    try:
        with _quiet():
            return Path(snapshot_download(name, allow_patterns=patterns, etag_timeout=_HUB_SECONDS))
    except Exception as error:  # offline, unknown or private: what the hub raises has no common base
        raise MissingError(f"the Hugging Face hub does not give it ({_line(error)})") from error


def _config_class(architecture: str) -> Any:
    # timm_backbone is a door to another library, which downloads weights while it builds.
    known = architecture in transformers.CONFIG_MAPPING and architecture != "timm_backbone"
    if not known or transformers.CONFIG_MAPPING[architecture] not in transformers.MODEL_FOR_BACKBONE_MAPPING:
        raise IncompatibleError(
            f"encoder: {architecture!r} is no backbone of transformers {transformers.__version__}; "
            "wanted one with features at strides 8, 16, 32, such as pvt_v2, swin, convnext or resnet"
        )
    return transformers.CONFIG_MAPPING[architecture]


def _parameter_names(architecture: str) -> set[str]:
    """What describes this architecture alone: nothing that transformers reads for any model, such as which code to run."""
    own = _config_class(architecture)().to_dict().keys() - transformers.PreTrainedConfig().to_dict().keys()
    return {name for name in own if not name.startswith("_")} - {"stage_names", "out_features", "model_type"} | {"out_indices"}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str) or (isinstance(value, int | float) and abs(value) <= _LARGEST)


def _transformers_config(config: BackboneConfig) -> Any:
    # Eager attention: what is counted and exported is what is trained.
    return _config_class(config.architecture)(**config.parameters, attn_implementation="eager")


def _backbone_class(built: Any) -> Any:
    return transformers.MODEL_FOR_BACKBONE_MAPPING[type(built)]


def _random_backbone(config: BackboneConfig) -> nn.Module:
    built = _transformers_config(config)
    with _quiet():
        return _backbone_class(built)(built)  # type: ignore[no-any-return]


def _features(config: BackboneConfig) -> list[tuple[int, tuple[float, float]]]:
    """Channels and (vertical, horizontal) stride of every feature map: built and run without memory."""
    height, width = _PROBE_HW
    try:
        with torch.device("meta"), torch.no_grad():
            maps = _random_backbone(config).eval()(torch.zeros(1, 3, height, width)).feature_maps
        return [(channels, (height / h, width / w)) for _, channels, h, w in (feature.shape for feature in maps)]
    except Exception as error:  # each architecture fails in its own way
        raise IncompatibleError(f"encoder {config.architecture}: cannot be built and run ({_line(error)})") from error


def _require_strides(architecture: str, strides: list[tuple[float, float]], right: bool) -> None:
    if not right:
        got = ", ".join(f"{h:g}" if h == w else f"{h:g}x{w:g}" for h, w in strides)
        raise IncompatibleError(f"encoder {architecture}: wanted features at strides 8, 16, 32, got {got or 'none'}")


def _mean_and_std(path: Path) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    document = _read_json(path) if path.is_file() else {}
    if document.get("do_normalize") is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    try:
        (r, g, b), (sr, sg, sb) = document.get("image_mean") or IMAGENET_MEAN, document.get("image_std") or IMAGENET_STD
        return (float(r), float(g), float(b)), (float(sr), float(sg), float(sb))
    except (TypeError, ValueError) as error:
        raise IncompatibleError(f"{path}: wanted image_mean and image_std of three channels ({error})") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise IncompatibleError(f"{path}: wanted JSON as save_pretrained writes it, got {_line(error)}") from error
    if not isinstance(document, dict):
        raise IncompatibleError(f"{path}: wanted a JSON object, got {type(document).__name__}")
    return document


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers shows bars and lists every tensor of a head that is left out; what matters is checked here."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
