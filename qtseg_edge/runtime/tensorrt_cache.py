"""What TensorRT-RTX compiled for a GPU, kept on disk: the next start of the same engine needs not compile it again.

One file per plan, GPU, driver and version of TensorRT-RTX in the user's cache folder. Whatever is wrong with it, it is only a cache:
TensorRT-RTX compiles anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from qtseg_edge.files import replacing
from qtseg_edge.runtime.cuda.contract import Gpu

_DIGEST_BYTES = 32


def runtime_cache_path(plan_sha256: str, version: str, gpu: Gpu) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = "\n".join((plan_sha256, version, gpu.name, gpu.compute_capability, gpu.driver))
    return base / "qtseg-edge" / "tensorrt-rtx" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.cache"


def read_runtime_cache(path: Path) -> bytes:
    """Empty where there is none, or one that is not what was written."""
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        digest, cache = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(cache).digest() == digest:
            return cache
    return b""


def write_runtime_cache(path: Path, cache: bytes) -> None:
    """Whole or not at all. A folder that cannot be written costs time at the next start, nothing else, so it is no error."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(hashlib.sha256(cache).digest() + cache)
