"""What each step of the CPU path saves (0021, 0022): graphs and settings with one step taken back, called by turns in one process.

python docs/decisions/measure_cpu.py models/kvasir-seg-polyp.safetensors --turns 60
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import typer

from qtseg_edge.console import print_table

CALLS = 3  # per turn, after one that is not counted
Call = Callable[[], object]


def main(
    checkpoint: Annotated[Path, typer.Argument(help="A two-class checkpoint.")],
    turns: int = 60,
    engine: Annotated[str, typer.Option(hidden=True, help="Time this alone: what child processes are told.")] = "",
    folder: Annotated[Path, typer.Option(hidden=True)] = Path(),
) -> None:
    if engine:
        measure(engine, checkpoint, folder, turns)
        return
    with tempfile.TemporaryDirectory() as name:
        export_all(checkpoint, Path(name))
        environment = os.environ | {"XDG_CACHE_HOME": name}
        for engine in ("openvino:f32", "onnxruntime"):
            command = [sys.executable, __file__, str(checkpoint), "--turns", str(turns), "--engine", engine, "--folder", name]
            subprocess.run(command, check=True, env=environment)


def export_all(checkpoint: Path, folder: Path) -> None:
    """The graph as it is, and with one step taken back each."""
    from qtseg_edge.export import example_frames, export_checkpoint

    for name, change in GRAPHS.items():
        with change():
            export_checkpoint(checkpoint, folder / f"{name}.onnx", example_frames())


@contextmanager
def plain_decoder() -> Iterator[None]:
    from qtseg_edge.export import onnx_graph

    with mock.patch.object(onnx_graph, "rewritten", lambda network: network):
        yield


@contextmanager
def exporters_gelu() -> Iterator[None]:
    from torch.nn import functional

    from qtseg_edge.model.rewritten.gelu import Gelu

    with mock.patch.object(Gelu, "forward", lambda self, x: functional.gelu(x)):
        yield


@contextmanager
def one_permutation() -> Iterator[None]:
    from qtseg_edge.model.rewritten import decoder

    def picture_of(rows: Any, size_hw: tuple[int, int], times: int) -> Any:
        height, width = size_hw
        grid, last = rows.unflatten(1, (height, width, *(2,) * (2 * times))), 3 + 2 * times
        order = [0, last, 1, *range(3, last, 2), 2, *range(4, last, 2)]
        return grid.permute(order).reshape(-1, rows.shape[2], height << times, width << times)

    with mock.patch.object(decoder, "picture_of", picture_of):
        yield


@contextmanager
def nothing() -> Iterator[None]:
    yield


GRAPHS = {
    "as it is": nothing,
    "decoder plain": plain_decoder,
    "GELU of torch's exporter": exporters_gelu,
    "one permutation": one_permutation,
}


def measure(engine: str, checkpoint: Path, folder: Path, turns: int) -> None:
    """Every call by turns; torch's alone afterwards, since its threads would go on waiting busily."""
    calls = dict(openvino_calls(folder) if engine == "openvino:f32" else onnxruntime_calls(folder))
    times: dict[str, list[list[float]]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            times[name].append(timed(call))
    torch_times = [timed(call) for call in [torch_call(checkpoint)] for _ in range(turns // 3)]
    best = np.min(times["as it is"], axis=1)
    p10 = {name: float(np.percentile(each, 10)) for name, each in (times | {"torch, eager, the plain network": torch_times}).items()}
    rows = []
    for name, value in p10.items():
        ratio = np.median(np.min(times[name], axis=1) / best) if name in times else value / p10["as it is"]
        rows.append([name, f"{value:.1f}", f"{ratio:.3f}"])
    print_table([engine, "p10, ms", "of as it is"], rows, f"{turns} turns of {CALLS}; ratios: median over the turns, torch's of p10")


def timed(call: Call) -> list[float]:
    call()
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e3)
    return times


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (1, 352, 352, 3), dtype=np.uint8)


def openvino_calls(folder: Path) -> Iterator[tuple[str, Call]]:
    from qtseg_edge.runtime import openvino_compile, openvino_graph

    for name in GRAPHS:
        yield name, backend_call(folder / f"{name}.onnx", "openvino:f32")
    with mock.patch.object(openvino_compile, "read_entry", lambda *given: None):  # not what was compiled with them
        with mock.patch.object(openvino_compile, "rewrite", lambda model: None):
            yield "head whole, LayerNorm", backend_call(folder / "as it is.onnx", "openvino:f32")
        with mock.patch.object(openvino_graph, "_PIECE_BYTES", 1 << 40):
            yield "head whole, means in the weights", backend_call(folder / "as it is.onnx", "openvino:f32")
        with mock.patch.object(openvino_compile, "rewrite", bilinear_as_convolution):
            yield "head whole, x2 bilinear as a convolution", backend_call(folder / "as it is.onnx", "openvino:f32")


def bilinear_as_convolution(model: Any) -> None:
    """Edge-pad, a 3x3 convolution 1 -> 4, depth to space: the same numbers as a bilinear x2 of one channel."""
    from qtseg_edge.runtime.openvino_library import openvino

    ops = openvino.opset13
    rows = np.array([[0.25, 0.75, 0], [0, 0.75, 0.25]], np.float32)
    kernels = np.stack([np.outer(rows[a], rows[b]) for a in (0, 1) for b in (0, 1)])[:, None]
    for node in model.get_ops():
        if node.get_type_name() == "Interpolate" and node.get_attributes()["mode"].startswith("linear"):
            sides = ops.constant(np.array([0, 0, 1, 1], np.int64))
            four = ops.convolution(
                ops.pad(node.input_value(0), sides, sides, "edge"), ops.constant(kernels), [1, 1], [0, 0], [0, 0], [1, 1]
            )
            for reader in list(node.output(0).get_target_inputs()):
                reader.replace_source_output(ops.depth_to_space(four, "blocks_first", 2).output(0))
    model.validate_nodes_and_infer_types()


def onnxruntime_calls(folder: Path) -> Iterator[tuple[str, Call]]:
    import onnxruntime

    for name in GRAPHS:
        yield name, backend_call(folder / f"{name}.onnx", "onnxruntime")
    add = onnxruntime.SessionOptions.add_session_config_entry

    def asleep(self: Any, key: str, value: str) -> None:
        add(self, key, "0" if key == "session.intra_op.allow_spinning" else value)

    with mock.patch.object(onnxruntime.SessionOptions, "add_session_config_entry", asleep):
        yield "workers that sleep between operations", backend_call(folder / "as it is.onnx", "onnxruntime")


def torch_call(checkpoint: Path) -> Call:
    return backend_call(checkpoint, "torch")


def backend_call(model: Path, device: str) -> Call:
    from qtseg_edge.runtime import open_backend

    backend, image = open_backend(model, device), picture()
    return lambda: backend.infer(image)


if __name__ == "__main__":
    typer.run(main)
