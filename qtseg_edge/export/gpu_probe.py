"""Is there an NVIDIA GPU? Asked of its driver itself, which needs no package and cannot crash, before TensorRT is touched."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

from qtseg_edge.runtime.cuda.contract import CudaError, Gpu

_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # of enum CUdevice_attribute, the same in every CUDA
_NAME_BYTES = 256
_L4T_RELEASE = Path("/etc/nv_tegra_release")


def probe_gpu() -> Gpu:
    """The GPU that CUDA takes by default. Raises CudaError where none answers."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise CudaError(f"no CUDA driver: {error}") from error
    device, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    _call(cuda, "cuInit", ctypes.c_uint(0))
    _call(cuda, "cuDeviceGet", ctypes.byref(device), 0)
    _call(cuda, "cuDeviceGetName", name, _NAME_BYTES, device)
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    major, minor, integrated = (_attribute(cuda, which, device) for which in (_MAJOR, _MINOR, _INTEGRATED))
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(name.value.decode(), f"{major}.{minor}", bool(integrated), driver)


def l4t_version(release: Path = _L4T_RELEASE) -> str:
    """Of a Jetson, such as 36.4.3; "" elsewhere."""
    try:
        text = release.read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{found[1]}.{found[2]}" if found else ""


def _attribute(cuda: Any, which: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(value), which, device)
    return value.value


def _call(cuda: Any, name: str, *arguments: Any) -> None:
    status = getattr(cuda, name)(*arguments)
    if status:
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(status, ctypes.byref(text))
        raise CudaError(f"{name}: {(text.value or b'unknown error').decode()}")
