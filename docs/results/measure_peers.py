"""Measures what docs/results/peers.md states: our backends beside others, on one CPU, by turns. From the repository's root:

    python -m docs.results.measure_peers --rounds 3 -o docs/results/peers.json

Needs the test packages (`pip install -e '.[dev]'`). With `--checkpoint WEIGHTS.pt`, a checkpoint of the authors with its cfg.json beside
it, the network in torch is theirs; the one that is taken otherwise is of the same shape. With `--ultralytics ENVIRONMENT` the sample clip
goes through Ultralytics and through `qtseg-edge run`, too: docs/results/peers.md says how to make that environment.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from docs.results.peer_networks import SizeHW, alone, benchmark_app
from docs.results.peer_video import DEVICE, YOLO, Ultralytics, VideoRun, our_run
from qtseg_edge.benchmark.machine import machine_state
from qtseg_edge.console import notice, print_tables
from qtseg_edge.files import replacing
from qtseg_edge.report import Table
from qtseg_edge.runtime.devices import default_model
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx
from tests.live_runs import ROOT

TORCH, NAIVE, APP, OURS = "torch eager, plain network", "ONNX Runtime, naive export", "benchmark_app, our ONNX", f"our {DEVICE}"
WITHIN = 1.05  # of benchmark_app's median
Latencies = dict[str, list[dict[str, float]]]  # of each network by round, ms
Videos = dict[str, list[VideoRun]]


@dataclass(frozen=True)
class Networks:
    """What the networks are and how long a call takes."""

    facts: dict[str, Any]
    latencies: Latencies

    @property
    def against_app(self) -> dict[str, Any]:
        """Our median against that of benchmark_app, of the best rounds and within each, and our shortest call against its."""
        ours, app = ([each["p50"] for each in self.latencies[name]] for name in (OURS, APP))
        least = [min(each["least"] for each in self.latencies[name]) for name in (OURS, APP)]
        by_rounds = [a / b for a, b in zip(ours, app, strict=True)]
        return {"best": min(ours) / min(app), "rounds": by_rounds, "shortest": least[0] / least[1], "wanted": WITHIN}


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    calls: Annotated[int, typer.Option(min=1, help="Of a network in a round.")] = 60,
    pause: Annotated[float, typer.Option(min=0, help="Seconds between two rounds, for a machine that gets hot.")] = 0.0,
    model: Annotated[Path | None, typer.Option(help="An ONNX file of ours; the built-in one when left out.")] = None,
    checkpoint: Annotated[Path, typer.Option(help="Of the plain network.")] = ROOT / "models" / "kvasir-seg-polyp.safetensors",
    ultralytics: Annotated[Path | None, typer.Option(help="A virtual environment that has it.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the figures as JSON, too.")] = None,
) -> None:
    machine, onnx = machine_state(), model or default_model()
    size_hw = spec_from_onnx(onnx).size_hw
    with tempfile.TemporaryDirectory() as folder:
        facts, naive = network_facts(checkpoint, onnx, size_hw, Path(folder))
        networks, videos = network_turns(checkpoint, onnx, naive, size_hw, calls), {}
        if ultralytics is not None:
            other = Ultralytics(ultralytics, Path(folder), max(size_hw))
            videos = {
                f"qtseg-edge run, {DEVICE}": lambda: our_run(onnx, Path(folder) / "cache"),
                f"yolo predict, {YOLO}, OpenVINO": other.run,
            }
        results = by_turns({**networks, **videos}, rounds, pause)
    measured = Networks(facts, {name: results[name] for name in networks})
    shown = {name: results[name] for name in videos}
    print_tables(tables(measured, shown, machine.line()))
    if output is not None:
        document = {
            "machine": asdict(machine),
            "size_hw": size_hw,
            "calls": calls,
            "network": facts,
            "latency_ms": measured.latencies,
            "against_benchmark_app": measured.against_app,
            "video": None if ultralytics is None else video_document(shown, other),
        }
        with replacing(output) as temporary:
            temporary.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")


def network_facts(checkpoint: Path, onnx: Path, size_hw: SizeHW, folder: Path) -> tuple[dict[str, Any], Path]:
    """And the naive export."""
    notice("exporting the plain network...")
    naive = folder / "naive.onnx"
    exported = alone("naive-export", checkpoint, *size_hw, naive)
    return {**alone("facts", checkpoint, onnx, *size_hw), "naive_onnx": exported}, naive


def network_turns(checkpoint: Path, onnx: Path, naive: Path, size_hw: SizeHW, calls: int) -> dict[str, Callable[[], Any]]:
    """Ours and benchmark_app one after the other, because they are compared closest."""
    return {
        TORCH: lambda: alone("torch-eager", checkpoint, *size_hw, calls),
        NAIVE: lambda: alone("naive-onnxruntime", naive, *size_hw, calls),
        "our onnxruntime": lambda: alone("backend", onnx, "onnxruntime", *size_hw, calls),
        OURS: lambda: alone("backend", onnx, DEVICE, *size_hw, calls),
        APP: lambda: benchmark_app(onnx, size_hw, calls),
    }


def by_turns(measurements: dict[str, Callable[[], Any]], rounds: int, pause: float) -> dict[str, list[Any]]:
    """Every second round backwards, so that a machine that slows down is slow for all."""
    results: dict[str, list[Any]] = {name: [] for name in measurements}
    for number in range(rounds):
        if number and pause:
            notice(f"pause of {pause:g} s...")
            time.sleep(pause)
        for name in list(measurements)[:: -1 if number % 2 else 1]:
            notice(f"round {number + 1}: {name}...")
            results[name].append(measurements[name]())
    return results


def tables(networks: Networks, videos: Videos, title: str) -> list[Table]:
    facts, ratio = networks.facts, networks.against_app
    torch_ms = min(each["p50"] for each in networks.latencies[TORCH])
    rows = []
    for name, each in networks.latencies.items():
        best = {key: f"{min(times[key] for times in each):.1f}" if key in each[0] else "" for key in ("least", "p10", "p50")}
        of_rounds = ", ".join(f"{times['p50']:.1f}" for times in each)
        rows.append([name, *best.values(), f"{torch_ms / min(times['p50'] for times in each):.2f} x", of_rounds])
    of_rounds = ", ".join(f"{each:.3f}" for each in ratio["rounds"])
    told = [
        f"{facts['parameters'] / 1e6:.3f} M parameters, {facts['gmac']:.3f} GMAC at this size, {facts['gmac_512']:.2f} at 512x512",
        f"{OURS} / benchmark_app, medians: best {ratio['best']:.3f}, in rounds {of_rounds}; shortest calls {ratio['shortest']:.3f}",
        f"wanted <= {WITHIN}: {'yes' if ratio['best'] <= WITHIN else 'NO'}",
    ]
    columns = ["device only, batch 1, ms: best of rounds", "least", "p10", "p50", "against torch", "p50 of the rounds"]
    found = [(columns, rows, "\n".join([title, *told]))]
    if videos:
        columns = [
            "the sample clip, whole program: best of rounds",
            "fps after the first",
            "seconds to it, first start",
            "later starts",
            "to the end",
        ]
        found.append((columns, [video_row(name, runs) for name, runs in videos.items()], ""))
    return found


def video_row(name: str, runs: list[VideoRun]) -> list[str]:
    first, *later = (run.first_seconds for run in runs)
    fps, whole = max(run.fps for run in runs), min(run.seconds for run in runs)
    return [name, f"{fps:.1f}", f"{first:.2f}", f"{min(later):.2f}" if later else "", f"{whole:.2f}"]


def video_document(videos: Videos, other: Ultralytics) -> dict[str, Any]:
    return {"runs": {name: [{"fps": run.fps, **asdict(run)} for run in runs] for name, runs in videos.items()}, YOLO: other.facts}


if __name__ == "__main__":
    typer.run(main)
