"""What a model file is: its card, what it computes, what it costs and where it comes from. Nothing is run.

An .onnx file is read without torch, and an engine from the file beside it, without TensorRT.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtseg_edge.errors import UsageError
from qtseg_edge.inspection.checkpoint import CheckpointInspection, inspect_checkpoint
from qtseg_edge.inspection.engine import EngineInspection, inspect_engine
from qtseg_edge.inspection.onnx_file import OnnxInspection, inspect_onnx
from qtseg_edge.runtime.devices import CHECKPOINT_SUFFIXES
from qtseg_edge.runtime.engine_file import ENGINE_SUFFIX

Inspection = CheckpointInspection | OnnxInspection | EngineInspection
_STRIDE = 32


def inspect_model(path: Path, imgsz: int | None = None) -> Inspection:
    """imgsz: a side to count a checkpoint's operations at, besides the size in its card.

    Raises UsageError (no such file, another kind, an impossible side), IncompatibleError (not one of ours). An engine that was changed
    or built by somebody else is shown as such; refusing it is for whoever opens it.
    """
    suffix = path.suffix.lower()
    if suffix not in {".onnx", ENGINE_SUFFIX, *CHECKPOINT_SUFFIXES}:
        checkpoints = ", ".join(sorted(CHECKPOINT_SUFFIXES))
        raise UsageError(f"{path}: wanted an .onnx file, an engine ({ENGINE_SUFFIX}) or a checkpoint ({checkpoints})")
    if imgsz is not None and (imgsz <= 0 or imgsz % _STRIDE):
        raise UsageError(f"--imgsz: wanted a multiple of {_STRIDE}, got {imgsz}")
    if suffix in CHECKPOINT_SUFFIXES:
        return inspect_checkpoint(path, imgsz)
    if imgsz is not None:
        raise UsageError(f"--imgsz: the size of an {suffix} file is fixed; wanted a checkpoint, got {path}")
    return inspect_onnx(path) if suffix == ".onnx" else inspect_engine(path)


def inspection_document(inspection: Inspection) -> dict[str, Any]:
    return inspection.document()


def inspection_rows(inspection: Inspection) -> tuple[list[str], list[list[str]], str]:
    """Columns, rows and title of a table."""
    return inspection.table()
