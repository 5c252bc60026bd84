"""What TensorRT-RTX compiled for a GPU: the next start of the same engine needs not compile it again.

One entry per plan, GPU, driver and version of TensorRT-RTX (`compiled_cache`).
"""

from __future__ import annotations

from pathlib import Path

from qtseg_edge.runtime.compiled_cache import entry_path, read_entry, write_entry
from qtseg_edge.runtime.cuda.contract import Gpu


def runtime_cache_path(plan_sha256: str, version: str, gpu: Gpu) -> Path:
    return entry_path("tensorrt-rtx", plan_sha256, version, gpu.name, gpu.compute_capability, gpu.driver)


def read_runtime_cache(path: Path) -> bytes:
    """Empty where there is none, or one that is not what was written."""
    return bytes(read_entry(path, bytearray) or b"")


def write_runtime_cache(path: Path, cache: bytes) -> None:
    write_entry(path, cache)
