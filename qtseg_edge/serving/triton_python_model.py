"""The model of Triton's Python backend: one of qtseg_edge's own engines on the CPU. Copied by `export-triton --backend python`.

Interface: triton-inference-server/python_backend, README, "Usage". Runs in the Python that Triton starts, with qtseg_edge installed.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime import open_backend
from qtseg_edge.runtime.backend import INPUT, OUTPUTS

_set_destructor = ctypes.pythonapi.PyCapsule_SetDestructor
_set_destructor.argtypes, _set_destructor.restype = [ctypes.py_object, ctypes.c_void_p], ctypes.c_int


class TritonPythonModel:
    """One instance; Triton calls it from one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        parameters = json.loads(args["model_config"])["parameters"]
        model = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._backend = open_backend(model, parameters["qtseg_edge.device"]["string_value"])
        pb_utils.Logger.log_info(f"{model}: opened on {self._backend.name}")

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, in their order; a failure is told to its own client alone."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        self._backend.close()

    def _answer(self, request: Any) -> Any:
        images = np.from_dlpack(pb_utils.get_input_tensor_by_name(request, INPUT))  # (N, H, W, 3) uint8, of Triton's memory
        try:
            masks = self._backend.infer(np.ascontiguousarray(images))
        except QtsegError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
        # Copied: the next call may overwrite what an engine returned, and Triton keeps it until it has answered.
        return pb_utils.InferenceResponse([_tensor(name, value.copy()) for name, value in zip(OUTPUTS, masks, strict=True)])


class _DlPack:
    """An array as DLPack gives it away.

    Not `pb_utils.Tensor(name, array)`: before Triton was built with NumPy 2 (2.51 is not) it reads an array of NumPy 2 as one of 0 bytes,
    and says nothing. Triton also marks a capsule as used by another name than the standard's, at which NumPy's destructor would print a
    traceback for every mask; the memory is Triton's to free by then, so the capsule needs no destructor.
    """

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def __dlpack__(self, **_: Any) -> Any:
        capsule = self._array.__dlpack__()
        _set_destructor(capsule, None)
        return capsule

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def _tensor(name: str, array: np.ndarray[Any, Any]) -> Any:
    return pb_utils.Tensor.from_dlpack(name, _DlPack(array))
