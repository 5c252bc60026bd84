"""ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from qtseg_edge.errors import IncompatibleError, QtsegError
from qtseg_edge.runtime.backend import INPUT, OUTPUTS, Backend, Masks, require_interface
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx

_ERRORS_ONLY = 3


class OnnxRuntimeBackend(Backend):
    def __init__(self, model: Path) -> None:
        self.spec = spec_from_onnx(model)
        self.name = "onnxruntime"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        # Workers wait busily within a frame, where waking them costs a fifth of its time; between two frames they would take the cores
        # that decoding, drawing and encoding need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base but Exception
            raise IncompatibleError(f"{model}: ONNX Runtime {onnxruntime.__version__} cannot load it ({_first_line(error)})") from error
        require_interface(model, [tensor.name for tensor in [*self._session.get_inputs(), *self._session.get_outputs()]])

    def _infer(self, image: NDArray[np.uint8]) -> Masks:
        if self._session is None:
            raise QtsegError(f"{self.name}: the backend is closed")
        try:
            mask, confidence = self._session.run(OUTPUTS, {INPUT: image})
        except Exception as error:  # as above
            raise QtsegError(f"{self.name}: inference failed ({_first_line(error)})") from error
        return Masks(mask, confidence)

    def close(self) -> None:
        self._session = None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
