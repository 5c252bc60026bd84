"""Checkpoint to ONNX: build the graph, prove it on images, and only then give the file its name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import onnx

from qtseg_edge.data import image_files
from qtseg_edge.errors import UsageError
from qtseg_edge.export.onnx_graph import DEFAULT_OPSET, graph_from_checkpoint, store_weights_half
from qtseg_edge.export.parity import Parity, compare_with_torch
from qtseg_edge.files import replacing
from qtseg_edge.model.checkpoint import load_checkpoint
from qtseg_edge.model.network import STRIDE
from qtseg_edge.spec import ModelSpec

OPSETS = range(18, 21)


@dataclass(frozen=True)
class ExportReport:
    onnx: Path
    bytes: int
    nodes: int
    opset: int
    spec: ModelSpec
    parity: Parity


def export_checkpoint(
    checkpoint_path: Path,
    onnx_path: Path,
    images: Path,
    size_hw: tuple[int, int] | None = None,
    batch: int | None = 1,
    opset: int = DEFAULT_OPSET,
    half_weights: bool = False,
) -> ExportReport:
    """Write `onnx_path`, or nothing at all.

    images: a folder of real frames to compare on. size_hw: the card's when None. batch: None for any. half_weights: store as float16.
    Raises UsageError, IncompatibleError (checkpoint), GateError (ONNX and torch disagree).
    """
    if size_hw is not None and any(side <= 0 or side % STRIDE for side in size_hw):
        raise UsageError(f"--imgsz: sides must be multiples of {STRIDE}, got {size_hw[0]}x{size_hw[1]}; try {_nearest(size_hw)}")
    if opset not in OPSETS:
        raise UsageError(f"--opset: wanted {OPSETS.start} to {OPSETS.stop - 1}, got {opset}")
    if not onnx_path.parent.is_dir():
        raise UsageError(f"{onnx_path.parent}: no such folder; create it with: mkdir -p {onnx_path.parent}")
    frames = image_files(images)
    checkpoint = load_checkpoint(checkpoint_path)
    spec = ModelSpec(checkpoint.card, size_hw or checkpoint.card.size_hw, batch, checkpoint.sha256)
    model = graph_from_checkpoint(checkpoint, spec, opset)
    if half_weights:
        store_weights_half(model)
    with replacing(onnx_path) as temporary:
        onnx.save(model, temporary)
        parity = compare_with_torch(temporary, checkpoint, spec, frames)
        parity.require()
    return ExportReport(onnx_path, onnx_path.stat().st_size, len(model.graph.node), opset, spec, parity)


def example_frames() -> Path:
    """The endoscopy frames that come with the package, for comparing on."""
    return Path(str(resources.files("qtseg_edge") / "assets" / "frames"))


def _nearest(size_hw: tuple[int, int]) -> str:
    return "x".join(str(max(STRIDE, round(side / STRIDE) * STRIDE)) for side in size_hw)
