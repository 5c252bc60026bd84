"""From `--cuda-driver` to CUDA, or to the one line that says why there is none."""

from __future__ import annotations

import functools
import importlib.util
from typing import Literal

from qtseg_edge.errors import MissingError, UsageError
from qtseg_edge.runtime.cuda.contract import Cuda, CudaError

CudaDriver = Literal["cuda-bindings", "pycuda"]
_MODULES: dict[CudaDriver, str] = {"cuda-bindings": "cuda.bindings", "pycuda": "pycuda"}
_CURES: dict[CudaDriver, str] = {
    "cuda-bindings": "pip install 'qtseg-edge[cuda]'",
    "pycuda": "pip install pycuda (it needs the CUDA toolkit)",
}
CUDA_DRIVERS = ("auto", *_MODULES)


def open_cuda(driver: str = "auto") -> Cuda:
    """`auto` takes what is installed, cuda-bindings first. Asks for a GPU, so that nothing after it need fear there is none.

    Raises UsageError (unknown driver), MissingError (not installed, does not load, no GPU that answers).
    """
    for name in _MODULES:
        if driver == name or (driver == "auto" and _installed(name)):
            return _opened(name)
    if driver != "auto":
        raise UsageError(f"--cuda-driver: wanted one of {', '.join(CUDA_DRIVERS)}; got {driver!r}")
    raise MissingError(f"running an engine needs a Python package for CUDA; get one with: {_CURES['cuda-bindings']}")


@functools.cache
def _opened(name: CudaDriver) -> Cuda:
    """Once per process, as is CUDA's own context."""
    if not _installed(name):
        raise MissingError(f"--cuda-driver {name}: it is not installed; get it with: {_CURES[name]}")
    try:
        if name == "pycuda":
            from qtseg_edge.runtime.cuda.pycuda import PyCuda

            return PyCuda()
        from qtseg_edge.runtime.cuda.bindings import BindingsCuda

        return BindingsCuda()
    except ImportError as error:  # PyCUDA is linked with the GPU's driver, and does not load where there is none
        raise MissingError(f"{name} is installed but does not load ({error}); check that `nvidia-smi` shows a GPU") from error
    except CudaError as error:
        raise MissingError(f"no NVIDIA GPU answers ({name}: {error}); check that `nvidia-smi` shows one") from error


def _installed(name: CudaDriver) -> bool:
    try:
        return importlib.util.find_spec(_MODULES[name]) is not None
    except (ImportError, ValueError):
        return False
