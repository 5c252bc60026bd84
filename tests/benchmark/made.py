"""Candidates, results and stand-ins for engines, whose figures are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtseg_edge.benchmark.candidates import Candidate
from qtseg_edge.benchmark.limits import Cost, Rate
from qtseg_edge.benchmark.machine import MachineState
from qtseg_edge.benchmark.results import Benchmark, Result, Settings

# In the place of ONNX Runtime: it does what the model's file name says, and writes down every call.
STAND_IN = """
import os, time
import numpy as np

__version__ = "stand-in"

class SessionOptions:
    def __getattr__(self, name):
        return lambda *arguments: None

class InferenceSession:
    def __init__(self, path, *arguments, **named):
        self.name = os.path.basename(path).removesuffix(".onnx")
        self.calls = 0
        if self.name == "refused":
            raise RuntimeError("no such operation")

    def get_inputs(self):
        return [type("Tensor", (), {"name": "image"})]

    def get_outputs(self):
        return [type("Tensor", (), {"name": name}) for name in ("mask", "confidence")]

    def run(self, outputs, inputs):
        started = time.monotonic_ns()
        image = inputs["image"]
        self.calls += 1
        if self.name == "crashing" and self.calls > 3:
            os.write(2, b"out of luck\\n")
            os.abort()
        if self.name == "failing" and self.calls > 3:
            raise RuntimeError("no longer")
        time.sleep(0.02 if self.name == "slow" else 0.001)
        with open(os.environ["STAND_IN_LOG"], "a") as log:
            print(self.name, os.getpid(), started, time.monotonic_ns(), file=log)
        red = image[..., 0]
        return [(red > (120 if self.name == "slow" else 127)).astype(np.uint8), np.full_like(red, 255)]
"""
MACHINE = MachineState(
    system="Linux",
    python="3.11.0",
    cpu="a CPU, 2 cores",
    cores=2,
    mhz=(2400.0, 2500.0),
    governor="performance",
    power_mode="",
    memory="8 GiB",
    jetpack="",
    load_average=(0.1, 0.2, 0.3),
    gpus=(),
    versions={"numpy": "2.0"},
)
# Two GFLOP/s for each precision but INT8, and 1 GB/s.
RATES = [Rate("cpu", what, "by hand", per_second, 10) for what, per_second in (("FP32", 2e9), ("BF16", 4e9), ("bytes", 1e9))]


def candidate(name: str = "a.onnx", device: str = "onnxruntime", batch: int = 1, folder: Path = Path(), **changed: Any) -> Candidate:
    cost = Cost({"FP32": 10_000_000}, {"FP32": 250_000}, (32, 64))
    fields: dict[str, Any] = {
        "model": folder / name,
        "path": folder / name,
        "device": device,
        "size_hw": (32, 64),
        "batch": batch,
        "precision": "fp32",
        "network": "n",
        "classes": 2,
        "cost": cost,
        "required": True,
    }
    return Candidate(**{**fields, **changed})


def result(one: Candidate, *blocks: list[float], engine: str = "onnxruntime") -> Result:
    """The same blocks both ways."""
    return Result(one, engine, samples={"device_only": [*blocks], "end_to_end": [*blocks]})


def benchmark_of(*results: Result, **changed: Any) -> Benchmark:
    fields: dict[str, Any] = {
        "machine": MACHINE,
        "settings": Settings(rounds=2, seconds=0.5),
        "results": list(results),
        "skipped": [],
        "rates": RATES,
        "images": 6,
        "meter": "",
        "interrupted": False,
    }
    return Benchmark(**{**fields, **changed})
