"""The networks of measure_peers.py, each timed in a process of its own that prints JSON: python -m docs.results.peer_networks --help.

An engine that idles in the same process would take time from the one that works: docs/decisions/0020-benchmark.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import typer

from qtseg_edge.runtime import open_backend

WARM_UP = 8
LOGITS_TOLERANCE = 1e-4
SizeHW = tuple[int, int]
app = typer.Typer(add_completion=False)


def alone(*arguments: object) -> dict[str, Any]:
    """What a command of this file prints, in a process of its own."""
    command = [sys.executable, "-m", "docs.results.peer_networks", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@app.command("torch-eager")
def torch_eager(checkpoint: Path, height: int, width: int, calls: int) -> None:
    """The plain network, which the authors' checkpoint fits: normalised image in, logits out."""
    import torch

    from qtseg_edge.model.checkpoint import load_checkpoint

    network, image = load_checkpoint(checkpoint).network, torch.from_numpy(random_image(height, width))
    with torch.inference_mode():
        answer(timed(lambda: network(image), calls))


@app.command("naive-export")
def naive_export(checkpoint: Path, height: int, width: int, output: Path) -> None:
    """Of the plain network, as torch's documentation shows it."""
    import onnx
    import torch

    from qtseg_edge.model.checkpoint import load_checkpoint

    torch.onnx.export(load_checkpoint(checkpoint).network, (torch.zeros(1, 3, height, width),), output, external_data=False)
    answer(nodes_and_opset(onnx.load(output)))


@app.command("naive-onnxruntime")
def naive_onnxruntime(model: Path, height: int, width: int, calls: int) -> None:
    """With the session options that ONNX Runtime has by itself."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model))
    inputs = {session.get_inputs()[0].name: random_image(height, width)}
    answer(timed(lambda: session.run(None, inputs), calls))


@app.command()
def backend(model: Path, device: str, height: int, width: int, calls: int) -> None:
    """One of ours: frame in, mask and confidence out."""
    with open_backend(model, device) as opened:
        frame = np.random.default_rng(0).integers(0, 255, (1, height, width, 3), dtype=np.uint8)
        answer(timed(lambda: opened.infer(frame), calls))


@app.command()
def facts(checkpoint: Path, model: Path, height: int, width: int) -> None:
    """Parameters and arithmetic; how far the logits are from those recorded beside the authors' checkpoint, where there are any."""
    import onnx
    import torch

    from qtseg_edge.model.checkpoint import load_checkpoint
    from qtseg_edge.model.complexity import multiply_accumulates, parameter_counts

    loaded, recorded = load_checkpoint(checkpoint), checkpoint.with_name("io.npz")
    difference = None
    if recorded.is_file():
        with np.load(recorded) as numbers, torch.inference_mode():
            logits = loaded.network(torch.from_numpy(numbers["input_352"])[None])[0].numpy()
            difference = float(np.abs(logits - numbers["logits_352"]).max())
        assert difference <= LOGITS_TOLERANCE, f"these are not the authors' logits: off by {difference}"
    answer(
        {
            "checkpoint": checkpoint.name,
            "parameters": parameter_counts(loaded.network)["total"],
            "gmac": multiply_accumulates(loaded.config, (height, width))["total"] / 1e9,
            "gmac_512": multiply_accumulates(loaded.config, (512, 512))["total"] / 1e9,
            "largest_difference_from_the_authors_logits": difference,
            "our_onnx": nodes_and_opset(onnx.load(model)),
        }
    )


def benchmark_app(model: Path, size_hw: SizeHW, calls: int) -> dict[str, float]:
    """OpenVINO's own, with the settings of our backend. It tells no percentile beside the median."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*benchmark_app_command(model, size_hw, calls), "-report_folder", folder], stdout=subprocess.DEVNULL, check=True)
        return times_of_report((Path(folder) / "benchmark_report.json").read_text(encoding="utf-8"))


def benchmark_app_command(model: Path, size_hw: SizeHW, calls: int) -> list[str]:
    program = str(Path(sysconfig.get_path("scripts")) / "benchmark_app")
    what = ["-m", str(model), "-d", "CPU", "-shape", f"[1,{size_hw[0]},{size_hw[1]},3]"]
    how = ["-hint", "latency", "-infer_precision", "f32", "-niter", str(calls), "-report_type", "no_counters", "-json_stats"]
    return [program, *what, *how]


def times_of_report(text: str) -> dict[str, float]:
    """Milliseconds, of the benchmark_report.json that `-json_stats -report_type no_counters` writes (openvino 2026.4)."""
    results = json.loads(text)["execution_results"]
    return {"p50": float(results["latency (ms)"]), "least": float(results["min latency"])}


def timed(call: Callable[[], object], calls: int) -> dict[str, float]:
    """Milliseconds."""
    times = []
    for _ in range(WARM_UP + calls):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    p10, p50 = np.percentile(times[WARM_UP:], (10, 50)) * 1e3
    return {"p10": float(p10), "p50": float(p50), "least": min(times[WARM_UP:]) * 1e3}


def random_image(height: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).uniform(-1, 1, (1, 3, height, width)).astype(np.float32)


def nodes_and_opset(model: Any) -> dict[str, int]:
    return {"nodes": len(model.graph.node), "opset": model.opset_import[0].version}


def answer(document: dict[str, Any]) -> None:
    print(json.dumps(document))


if __name__ == "__main__":
    app()
