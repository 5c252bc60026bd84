"""How fast this machine multiplies and copies, with all of its cores: what the limit of a network is made of. Runs in a child process.

A rate is operations, or bytes, per second: two operations for each multiply-accumulate; a copied byte counts twice, read and written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

Place = Literal["cpu", "gpu"]
BYTES = "bytes"
_SIDE = 2048  # of the matrices: three of 16 MB in FP32, 17 GFLOP
_COPIED = 128 << 20  # bytes: more than the caches of most machines hold
_GPU_SIDE, _GPU_COPIED = 8192, 1 << 30


@dataclass(frozen=True)
class Work:
    """Something to be timed. what: a precision, or `BYTES`. by: the library that does it. amount: operations or bytes of one call."""

    place: Place
    what: str
    by: str
    amount: float
    call: Callable[[], object]


def works(with_gpu: bool) -> list[Work]:
    """All that the installed libraries can do here; several for one precision where several libraries multiply in it."""
    found = [_numpy_product(), _numpy_copy(), *_openvino_products()]
    return [*found, *_torch_works("cuda")] if with_gpu else found


def _operations(side: int) -> float:
    return 2.0 * side**3


def _numpy_product() -> Work:
    random = np.random.default_rng(0)
    first, second = (random.random((_SIDE, _SIDE), np.float32) for _ in range(2))
    result = np.empty_like(first)
    return Work("cpu", "FP32", f"numpy {np.__version__}", _operations(_SIDE), lambda: np.matmul(first, second, out=result))


def _numpy_copy() -> Work:
    """One slice for each core: a single one does not fill the memory's lanes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sources = np.array_split(np.ones(_COPIED, np.uint8), cores)
    targets = np.array_split(np.ones(_COPIED, np.uint8), cores)
    pool = ThreadPoolExecutor(cores)
    return Work("cpu", BYTES, f"numpy {np.__version__}", 2.0 * _COPIED, lambda: list(pool.map(np.copyto, targets, sources)))


def _openvino_products() -> Iterator[Work]:
    """In FP32 and in what else the CPU has: bfloat16, and int8 of both operands."""
    try:
        from qtseg_edge.runtime.openvino_library import openvino
    except ImportError:
        return
    core = openvino.Core()
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for what, hint in (("FP32", "f32"), ("BF16", "bf16"), ("INT8", "f32")):
        if what not in able:
            continue
        properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        request = core.compile_model(_openvino_product(_SIDE, what == "INT8"), "CPU", properties).create_infer_request()
        request.set_input_tensor(openvino.Tensor(np.random.default_rng(0).random((_SIDE, _SIDE), np.float32)))
        yield Work("cpu", what, f"openvino {openvino.__version__.split('-')[0]}", _operations(_SIDE), request.infer)


def _openvino_product(side: int, is_int8: bool) -> Any:
    """An input times a constant, as in a network; both quantised as OpenVINO's own tools do it where `is_int8`."""
    from qtseg_edge.runtime.openvino_library import openvino

    ops = openvino.opset13

    image: Any = ops.parameter([side, side], np.float32)
    weights: Any = ops.constant(np.random.default_rng(1).random((side, side), np.float32) - 0.5)
    first, second = image, weights
    if is_int8:
        first = ops.fake_quantize(image, *(np.float32(edge) for edge in (0, 1, 0, 1)), 256)
        second = ops.fake_quantize(weights, *(np.float32(edge) for edge in (-0.5, 0.5, -0.5, 0.5)), 255)
    return openvino.Model([ops.matmul(first, second, False, True)], [image])


def _torch_works(device: str, side: int = _GPU_SIDE, copied: int = _GPU_COPIED) -> list[Work]:
    """On a GPU by torch, which has cuBLAS; FP32 may use TF32, as TensorRT does. Nothing where torch is not there or finds no GPU."""
    try:
        import torch
    except ImportError:
        return []
    if device == "cuda" and not torch.cuda.is_available():
        return []
    torch.backends.cuda.matmul.allow_tf32 = True
    by, found = f"torch {torch.__version__}", []

    def finished(call: Callable[[], object]) -> Callable[[], object]:
        def called() -> None:
            call()
            if device == "cuda":
                torch.cuda.synchronize()

        return called

    for what, kind in (("FP32", torch.float32), ("FP16", torch.float16), ("BF16", torch.bfloat16)):
        factor = torch.ones(side, side, dtype=kind, device=device)
        found.append(Work("gpu", what, by, _operations(side), finished(partial(torch.mm, factor, factor))))
    small = torch.ones(side, side, dtype=torch.int8, device=device)
    found.append(Work("gpu", "INT8", by, _operations(side), finished(partial(torch._int_mm, small, small.T))))
    source = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return [*found, Work("gpu", BYTES, by, 2.0 * copied, finished(partial(target.copy_, source)))]
