"""What rewriting the decoder saves (0021): the same checkpoint exported plain and rewritten, by turns, each run in a process of its own.

python docs/decisions/measure_rewritten.py models/kvasir-seg-polyp.safetensors --rounds 3
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from qtseg_edge.console import print_table
from qtseg_edge.runtime import open_backend

WARM_UP, CALLS = 8, 40
DEVICES = ("openvino:f32", "onnxruntime")


def main(
    checkpoint: Annotated[Path, typer.Argument(help="A two-class checkpoint.")],
    rounds: int = 3,
    device: Annotated[str, typer.Option(hidden=True, help="Time this alone: what the processes of a round are told.")] = "",
) -> None:
    if device:
        print(*timed(checkpoint, device))
        return
    with tempfile.TemporaryDirectory() as folder:
        models = {"plain": Path(folder) / "plain.onnx", "rewritten": Path(folder) / "rewritten.onnx"}
        export(checkpoint, models)
        runs = [(device, name, path) for device in DEVICES for name, path in models.items()] + [("torch", "plain", checkpoint)]
        times: dict[tuple[str, str], list[list[float]]] = {}
        for _ in range(rounds):
            for device, name, path in runs:
                command = [sys.executable, __file__, str(path), "--device", device]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                times.setdefault((device, name), []).append([float(number) for number in out.split()])
    best = {run: np.min(each, axis=0) for run, each in times.items()}
    rows = [
        [device, name, f"{p10:.1f}", f"{p50:.1f}", f"{best[device, 'plain'][0] / p10:.2f} x", f"{best['torch', 'plain'][0] / p10:.2f} x"]
        for (device, name), (p10, p50) in best.items()
    ]
    print_table(["device", "decoder", "p10, ms", "p50", "against plain", "against torch"], rows, f"best of {rounds} rounds")


def export(checkpoint: Path, models: dict[str, Path]) -> None:
    from qtseg_edge.export import example_frames, export_checkpoint, onnx_graph

    export_checkpoint(checkpoint, models["rewritten"], example_frames())
    onnx_graph.rewritten = lambda network: network  # what the exporter did before
    export_checkpoint(checkpoint, models["plain"], example_frames())


def timed(model: Path, device: str) -> tuple[float, float]:
    """p10 and p50 of a call, milliseconds."""
    with open_backend(model, device) as backend:
        image = np.random.default_rng(0).integers(0, 255, (1, *backend.spec.size_hw, 3), dtype=np.uint8)
        times = []
        for _ in range(WARM_UP + CALLS):
            started = time.perf_counter()
            backend.infer(image)
            times.append(time.perf_counter() - started)
    p10, p50 = np.percentile(times[WARM_UP:], (10, 50)) * 1e3
    return float(p10), float(p50)


if __name__ == "__main__":
    typer.run(main)
