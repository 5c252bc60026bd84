"""Where OpenVINO's time goes, by kind of operation, and how near to the matrix product's rate each comes (0022).

python docs/decisions/measure_cpu_operations.py qtseg_edge/assets/kvasir-seg-polyp.onnx --turns 100
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from qtseg_edge.benchmark.rates import works
from qtseg_edge.console import print_table
from qtseg_edge.runtime.openvino_graph import rewrite
from qtseg_edge.runtime.openvino_library import openvino

_KINDS = {
    "Convolution": "convolutions",
    "ConvolutionBackpropData": "convolutions",
    "MatMul": "matrix products",
    "FullyConnected": "matrix products",
}
_OTHER = "everything else"


def main(model: Annotated[Path, typer.Argument(help="An .onnx file of float32.")], turns: int = 100) -> None:
    """By turns: a call of the network, and a large matrix product. p10 over the turns of each kind's sum."""
    core = openvino.Core()
    graph = core.read_model(str(model))
    rewrite(graph)
    operations = amounts(graph)
    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": "YES"}
    request = core.compile_model(graph, "CPU", properties).create_infer_request()
    (product,) = [work for work in works(with_gpu=False) if work.what == "FP32" and work.by.startswith("openvino")]
    image = np.random.default_rng(0).integers(0, 255, tuple(graph.input(0).shape), dtype=np.uint8)
    found, rates = [], []
    for turn in range(turns + 3):
        request.infer([image])  # the product has emptied the caches
        request.infer([image])
        times, counts = spent(request)
        started = time.perf_counter()
        product.call()
        if turn >= 3:
            found.append(times)
            rates.append(product.amount / (time.perf_counter() - started))
    rate = float(np.percentile(rates, 90))
    rows = []
    for kind in (*dict.fromkeys(_KINDS.values()), _OTHER):
        ms = float(np.percentile([times[kind] for times in found], 10))
        share = ms / float(np.percentile([sum(times.values()) for times in found], 10))
        reached = f"{operations[kind] / ms / 1e6 / (rate / 1e9):.0%}" if operations[kind] else "-"
        rows.append([kind, f"{counts[kind]}", f"{ms:.1f}", f"{share:.0%}", f"{operations[kind] / 1e9:.2f}", reached])
    header = ["kind", "operations run", "p10, ms", "share", "GFLOP", "of the product's rate"]
    print_table(header, rows, f"a product of two large matrices: {rate / 1e9:.0f} GFLOP/s")


def amounts(graph: Any) -> Counter[str]:
    """Floating-point operations by kind, two for each multiply-accumulate."""
    counts: Counter[str] = Counter()
    for node in graph.get_ops():
        name = node.get_type_name()
        if name not in _KINDS:
            continue
        first, second, result = (tuple(output.shape) for output in (node.input_value(0), node.input_value(1), node.output(0)))
        if name == "MatMul":
            macs = math.prod(result) * (first[-2] if node.get_attributes()["transpose_a"] else first[-1])
        else:  # weights of a convolution: (out, in, *kernel); of a transposed one: (in, out, *kernel)
            macs = math.prod(result if name == "Convolution" else first) * math.prod(second[1:])
        counts[_KINDS[name]] += 2 * macs
    return counts


def spent(request: Any) -> tuple[dict[str, float], Counter[str]]:
    """Milliseconds, and how many operations were run, by kind."""
    times: dict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    for node in request.get_profiling_info():
        if node.status == node.status.EXECUTED:
            kind = _KINDS.get(node.node_type, _OTHER)
            times[kind] += node.real_time.total_seconds() * 1e3
            counts[kind] += 1
    return times, counts


if __name__ == "__main__":
    typer.run(main)
