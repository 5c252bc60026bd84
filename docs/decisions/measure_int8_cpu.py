"""What INT8 is worth on this CPU (0022): Dice and time of one graph in float32 and in INT8, with OpenVINO's refusal of INT8 taken away.

qtseg-edge build-engine --precision int8 -o int8.onnx
python docs/decisions/measure_int8_cpu.py int8.onnx --data KVASIR-SEG/val
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import typer

from qtseg_edge.console import print_table
from qtseg_edge.data import labelled_images, read_binary_mask, read_image
from qtseg_edge.metrics import foreground_overlap
from qtseg_edge.runtime import Backend, open_backend, openvino_compile
from qtseg_edge.transforms import Letterbox

FUSED = ("Conv", "QLinearConv", "QuantizeLinear", "DequantizeLinear")


def main(
    int8: Annotated[Path, typer.Argument(help="Made of the built-in model by build-engine.")],
    data: Annotated[Path, typer.Option(help="A split with images/ and masks/.")],
) -> None:
    # What is compiled here must not be kept: the next start would take it without asking.
    nothing: Any = dict.fromkeys(("require_exact_int8", "read_entry", "write_entry"), lambda *given: None)
    with mock.patch.multiple(openvino_compile, **nothing):
        backends = {
            ("float32", "openvino:f32"): open_backend(None, "openvino:f32"),
            ("INT8", "openvino:f32"): open_backend(int8, "openvino:f32"),
            ("float32", "onnxruntime"): open_backend(None, "onnxruntime"),
            ("INT8", "onnxruntime"): open_backend(int8, "onnxruntime"),
        }
    dice: dict[tuple[str, str], list[float]] = {key: [] for key in backends}
    times: dict[tuple[str, str], list[float]] = {key: [] for key in backends}
    for pair in labelled_images(data):
        image, labelled = read_image(pair.image), read_binary_mask(pair.mask)
        letterbox = Letterbox((image.shape[0], image.shape[1]), backends["float32", "onnxruntime"].spec.size_hw)
        for key, backend in backends.items():
            mask, milliseconds = timed(backend, letterbox.frame(image)[None])
            dice[key].append(foreground_overlap(mask, letterbox.mask(labelled)).dice)
            times[key].append(milliseconds)
    rows = []
    for (precision, engine), values in dice.items():
        ratio = np.median(np.divide(times[precision, engine], times["float32", engine]))
        rows.append([engine, precision, f"{100 * np.mean(values):.2f}", f"{ratio:.2f}"])
    print_table(["engine", "graph", "Dice", "time of float32's"], rows, f"{len(values)} images, by turns; medians of ratios")
    print(f"as ONNX Runtime runs it: {', '.join(f'{count} {kind}' for kind, count in operations(int8).items())}")


def timed(backend: Backend, image: np.ndarray) -> tuple[np.ndarray, float]:
    """The mask and how long it took, the second of two calls."""
    backend.infer(image)
    started = time.perf_counter()
    mask = backend.infer(image).mask[0].copy()
    return mask, (time.perf_counter() - started) * 1e3


def operations(model: Path) -> dict[str, int]:
    """Of convolutions and what stands around them, after ONNX Runtime's own changes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        counts = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    return {kind: counts[kind] for kind in FUSED}


if __name__ == "__main__":
    typer.run(main)
