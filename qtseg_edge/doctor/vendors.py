"""What a vendor's package says of itself. Runs in a child process: importing one can crash, hang or print."""

from __future__ import annotations

import ctypes
import importlib
import json
import re
import sys
from collections.abc import Callable
from typing import Any

ANSWER = "qtseg-edge doctor: "
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CUdevice_attribute
_NO_DEVICE = 100


class NoGpuError(Exception):
    """There is nothing to be found, which is no fault."""


def answer(name: str) -> None:
    """Print what was found, as JSON behind `ANSWER`, or why nothing was."""
    try:
        given: dict[str, Any] = {"facts": _QUESTIONS[name]()}
    except NoGpuError as error:
        given = {"missing": str(error)}
    except Exception as error:  # whatever a broken installation raises
        lines = str(error).strip().splitlines()
        given = {"broken": f"{type(error).__name__}: {lines[0].strip()}"[:200] if lines else type(error).__name__}
    print(f"\n{ANSWER}{json.dumps(given)}", flush=True)


def build_flag(information: str, name: str) -> str:
    """Of cv2.getBuildInformation(): "YES (1.20.3)", "NO", or "" where it is not named."""
    found = re.search(rf"^\s*{name}:[ \t]+(\S.*?)\s*$", information, re.MULTILINE)
    return found[1] if found else ""


def _opencv() -> dict[str, Any]:
    import cv2

    information = cv2.getBuildInformation()
    return {"version": cv2.__version__, "ffmpeg": build_flag(information, "FFMPEG"), "gstreamer": build_flag(information, "GStreamer")}


def _onnxruntime() -> dict[str, Any]:
    onnxruntime = importlib.import_module("onnxruntime")
    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}


def _openvino() -> dict[str, Any]:
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    types = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") if "CPU" in core.available_devices else []
    version = openvino.__version__.split("-")[0]  # without the build
    return {"version": version, "devices": list(core.available_devices), "bf16": "BF16" in types}


def _torch() -> dict[str, Any]:
    torch = importlib.import_module("torch")
    return {"version": torch.__version__, "cuda": torch.cuda.is_available()}


def _version_of(module: str, attribute: str = "__version__", load: str = "") -> Callable[[], dict[str, Any]]:
    """load: the part that shows whether the package works."""

    def question() -> dict[str, Any]:
        loaded = importlib.import_module(module)
        importlib.import_module(load or module)
        return {"version": str(getattr(loaded, attribute))}

    return question


def _cuda_driver() -> dict[str, Any]:
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError as error:
        raise NoGpuError("no NVIDIA driver") from error
    _checked(cuda, "cuInit", 0)
    version, count = ctypes.c_int(), ctypes.c_int()
    _checked(cuda, "cuDriverGetVersion", ctypes.byref(version))
    _checked(cuda, "cuDeviceGetCount", ctypes.byref(count))
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return {"version": driver, "gpus": [_gpu(cuda, index) for index in range(count.value)]}


def _gpu(cuda: ctypes.CDLL, index: int) -> dict[str, Any]:
    device, size = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    _checked(cuda, "cuDeviceGet", ctypes.byref(device), index)
    _checked(cuda, "cuDeviceGetName", name, len(name), device)
    _checked(cuda, "cuDeviceTotalMem_v2", ctypes.byref(size), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        _checked(cuda, "cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    capability = f"{attribute(_MAJOR)}.{attribute(_MINOR)}"
    text = name.value.decode(errors="replace")
    return {"name": text, "compute_capability": capability, "bytes": size.value, "integrated": bool(attribute(_INTEGRATED))}


def _checked(cuda: ctypes.CDLL, function: str, *arguments: Any) -> None:
    status = getattr(cuda, function)(*arguments)
    if status == _NO_DEVICE:
        raise NoGpuError("the NVIDIA driver finds no GPU")
    if status:
        raise RuntimeError(f"{function} gives CUDA error {status}")


_QUESTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "opencv": _opencv,
    "av": _version_of("av"),
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "torch": _torch,
    "onnx": _version_of("onnx"),
    "cuda-driver": _cuda_driver,
    "cuda-bindings": _version_of("cuda.bindings", load="cuda.bindings.runtime"),
    "pycuda": _version_of("pycuda", "VERSION_TEXT", load="pycuda.driver"),
    "tensorrt": _version_of("tensorrt"),
    "tensorrt-rtx": _version_of("tensorrt_rtx"),
}
