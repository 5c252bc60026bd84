"""OpenVINO on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import IncompatibleError, MissingError, QtsegError
from qtseg_edge.runtime.backend import INPUT, Backend, Masks, require_interface
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx
from qtseg_edge.runtime.openvino_compile import compiled_model
from qtseg_edge.runtime.openvino_library import openvino

Precision = Literal["f32", "bf16"]


class OpenVinoBackend(Backend):
    """precision: None takes bf16 where the model's card allows it and the CPU has it; bf16 is refused on a CPU without it."""

    def __init__(self, model: Path, precision: Precision | None = None) -> None:
        self.spec = spec_from_onnx(model)
        core = openvino.Core()
        if precision is None:
            precision = "bf16" if self.spec.card.bf16_verified and has_bf16(core) else "f32"
        if precision == "bf16" and not has_bf16(core):
            raise MissingError("openvino bf16: this CPU has no bfloat16 arithmetic; use --device openvino:f32")
        self.name = f"openvino {precision}"
        try:
            compiled = compiled_model(core, model, {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision})
        except RuntimeError as error:
            raise IncompatibleError(f"{model}: OpenVINO {openvino.__version__} cannot compile it ({_last_line(error)})") from error
        require_interface(model, [name for port in [*compiled.inputs, *compiled.outputs] for name in port.names])
        self._request: openvino.InferRequest | None = compiled.create_infer_request()

    def _infer(self, image: NDArray[np.uint8]) -> Masks:
        if self._request is None:
            raise QtsegError(f"{self.name}: the backend is closed")
        try:
            results = self._request.infer({INPUT: image}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise QtsegError(f"{self.name}: inference failed ({_last_line(error)})") from error
        return Masks(results["mask"], results["confidence"])

    def close(self) -> None:
        self._request = None


def has_bf16(core: openvino.Core) -> bool:
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:200] if lines else type(error).__name__
