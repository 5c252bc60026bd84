"""From a checkpoint to ONNX and from ONNX to engines.

What needs torch is loaded when it is first asked for: a board that only builds engines has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qtseg_edge.export.checkpoint_export import ExportReport, example_frames, export_checkpoint

__all__ = ["ExportReport", "example_frames", "export_checkpoint"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from qtseg_edge.export import checkpoint_export

    return getattr(checkpoint_export, name)
