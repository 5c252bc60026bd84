"""What a model file is: its card, its network and what it costs. An .onnx file is read without torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.runtime.devices import CHECKPOINT_SUFFIXES
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx
from qtseg_edge.spec import ModelCard, ModelSpec

if TYPE_CHECKING:
    from qtseg_edge.model.network import NetworkConfig

_STRIDE = 32


@dataclass(frozen=True)
class CheckpointInspection:
    """parameters: by part and in total. macs: for each size (height, width), multiply-accumulates of one image, likewise."""

    path: Path
    bytes: int
    sha256: str
    card: ModelCard
    network: NetworkConfig
    parameters: dict[str, int]
    macs: dict[tuple[int, int], dict[str, int]]


@dataclass(frozen=True)
class OnnxInspection:
    """opset and nodes are None where the onnx package is not installed."""

    path: Path
    bytes: int
    sha256: str
    spec: ModelSpec
    opset: int | None
    nodes: int | None


def inspect_model(path: Path, imgsz: int | None = None) -> CheckpointInspection | OnnxInspection:
    """imgsz: a side to count a checkpoint's operations at, besides the size in its card.

    Raises UsageError (no such file, another kind, an impossible side), IncompatibleError (not one of ours).
    """
    suffix = path.suffix.lower()
    if suffix != ".onnx" and suffix not in CHECKPOINT_SUFFIXES:
        raise UsageError(f"{path}: wanted an .onnx file or a checkpoint ({', '.join(sorted(CHECKPOINT_SUFFIXES))})")
    if imgsz is not None and (imgsz <= 0 or imgsz % _STRIDE):
        raise UsageError(f"--imgsz: wanted a multiple of {_STRIDE}, got {imgsz}")
    if suffix != ".onnx":
        return _inspect_checkpoint(path, imgsz)
    if imgsz is not None:
        raise UsageError(f"--imgsz: the size of an .onnx file is fixed; wanted a checkpoint, got {path}")
    return _inspect_onnx(path)


def _inspect_checkpoint(path: Path, imgsz: int | None) -> CheckpointInspection:
    from qtseg_edge.model.checkpoint import load_checkpoint
    from qtseg_edge.model.complexity import multiply_accumulates, parameter_counts

    loaded = load_checkpoint(path)
    sizes = [loaded.card.size_hw, *([(imgsz, imgsz)] if imgsz else [])]
    macs = {size_hw: multiply_accumulates(loaded.config, size_hw) for size_hw in sizes}
    parameters = parameter_counts(loaded.network)
    return CheckpointInspection(path, path.stat().st_size, loaded.sha256, loaded.card, loaded.config, parameters, macs)


def _inspect_onnx(path: Path) -> OnnxInspection:
    spec = spec_from_onnx(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return OnnxInspection(path, path.stat().st_size, digest, spec, *_opset_and_nodes(path))


def _opset_and_nodes(path: Path) -> tuple[int | None, int | None]:
    try:
        import onnx
    except ModuleNotFoundError:
        return None, None
    try:
        model = onnx.load(path, load_external_data=False)
        return next(entry.version for entry in model.opset_import if not entry.domain), len(model.graph.node)
    except Exception as error:  # protobuf's own errors, or a model without its opset
        raise IncompatibleError(f"{path}: not a whole ONNX file ({type(error).__name__})") from error


def inspection_document(inspection: CheckpointInspection | OnnxInspection) -> dict[str, Any]:
    file = {"file": str(inspection.path), "bytes": inspection.bytes, "sha256": inspection.sha256}
    if isinstance(inspection, OnnxInspection):
        spec = inspection.spec
        return {
            **file,
            "kind": "onnx",
            "opset": inspection.opset,
            "nodes": inspection.nodes,
            "batch": spec.batch or "dynamic",
            "size_hw": spec.size_hw,
            "checkpoint_sha256": spec.checkpoint_sha256,
            "card": asdict(spec.card),
        }
    return {
        **file,
        "kind": "checkpoint",
        "network": {**asdict(inspection.network), "encoder_config": _encoder_config(inspection.network)},
        "parameters": inspection.parameters,
        "macs": [{"size_hw": size_hw, **counts} for size_hw, counts in inspection.macs.items()],
        "card": asdict(inspection.card),
    }


def inspection_rows(inspection: CheckpointInspection | OnnxInspection) -> tuple[list[str], list[list[str]], str]:
    """Columns, rows and title of a table."""
    if isinstance(inspection, OnnxInspection):
        return ["", "value"], _onnx_rows(inspection), _title(inspection, inspection.spec.card)
    columns = ["", "parameters", *(f"GMAC at {h}x{w}" for h, w in inspection.macs)]
    rows = [
        [part, f"{count / 1e6:.3f} M", *(f"{counts[part] / 1e9:.3f}" for counts in inspection.macs.values())]
        for part, count in inspection.parameters.items()
    ]
    return columns, rows, _title(inspection, inspection.card)


def _onnx_rows(inspection: OnnxInspection) -> list[list[str]]:
    spec = inspection.spec
    shape = f"{spec.batch or 'any'} x {spec.size_hw[0]} x {spec.size_hw[1]}"
    absent = "not read: pip install 'qtseg-edge[export]'"
    return [
        ["input image", f"{shape} x 3, uint8 RGB"],
        ["output mask, confidence", f"{shape}, uint8"],
        ["opset", str(inspection.opset or absent)],
        ["nodes", str(inspection.nodes or absent)],
    ]


def _title(inspection: CheckpointInspection | OnnxInspection, card: ModelCard) -> str:
    """Texts, which a table would cut: one line each."""
    colours = zip(card.classes, card.colours_rgb, strict=True)
    lines = {
        "model": card.name,
        "file": f"{inspection.path}, {inspection.bytes / 1e6:.1f} MB",
        "sha256": inspection.sha256,
        **_origin(inspection),
        "classes": ", ".join(f"{name} (RGB {r} {g} {b})" for name, (r, g, b) in colours),
        "input": f"{card.size_hw[0]}x{card.size_hw[1]}, normalisation {card.normalisation}, threshold {card.threshold:g}",
        "data": card.data,
        "data terms": card.data_terms,
        "training": card.training,
        "scores": ", ".join(f"{name} {value:g}" for name, value in card.scores.items()) or "not stated",
        "limits": card.limits,
        "licence": card.licence,
        "notice": card.notice,
    }
    return "\n".join(f"{label:<12}{text}" for label, text in lines.items()) + "\n"


def _origin(inspection: CheckpointInspection | OnnxInspection) -> dict[str, str]:
    if isinstance(inspection, OnnxInspection):
        return {"checkpoint": inspection.spec.checkpoint_sha256 or "not stated"}
    network = inspection.network
    described = f"width {network.width}, decoder blocks {network.depths}, {network.heads} heads, MLP of {network.mlp_width}"
    backbone = _encoder_config(network)
    parameters = ", ".join(f"{name} {value}" for name, value in backbone.get("parameters", {}).items())
    return {"network": described, "encoder": f"{network.encoder} {parameters}".rstrip()}


def _encoder_config(network: NetworkConfig) -> dict[str, Any]:
    return json.loads(network.encoder_config) if network.encoder_config else {}
