"""What was measured of each candidate, and the figures made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median

import numpy as np

from qtseg_edge.benchmark.candidates import Candidate, Skipped
from qtseg_edge.benchmark.limits import Limit, Rate, limit_of
from qtseg_edge.benchmark.machine import MachineState
from qtseg_edge.benchmark.rates import Place
from qtseg_edge.errors import QtsegError

WAYS = ("device_only", "end_to_end")
_FLOATS = {"bf16": "BF16", "f16": "FP16"}  # how an engine's name ends that computes in another precision than its graph


@dataclass(frozen=True)
class Figures:
    """Milliseconds of one call, of `batch` images. Percentiles are nearest ranks, so each is a time that was measured."""

    count: int
    mean: float
    p10: float
    p50: float
    p95: float
    p99: float
    fps: float


@dataclass(frozen=True)
class Ratio:
    """How many times as many images per second as another: the median over the rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float


@dataclass(eq=False)
class Result:
    """Of one candidate. engine: what the backend calls itself. error: why it is not, or not wholly, measured; None where it is.

    samples: for each of `WAYS`, a list of milliseconds for each round. open_seconds: from the file to the first masks. memory_bytes: of
    the process, beyond what it held before. gpu_bytes: by how much opening it filled the GPUs. watts: means over its end-to-end blocks;
    celsius, gpu_mhz: the highest temperature and the median clock in each of them. throttled: why the machine was while it was measured.
    reference: the FP32 candidate that its masks were compared with; pixels_equal, mask_iou: with its masks, 0..1. dice: 0..1.
    """

    candidate: Candidate
    engine: str = ""
    error: QtsegError | None = None
    samples: dict[str, list[list[float]]] = field(default_factory=lambda: {way: [] for way in WAYS})
    open_seconds: float | None = None
    memory_bytes: int | None = None
    gpu_bytes: int | None = None
    watts: list[float] = field(default_factory=list)
    celsius: list[float] = field(default_factory=list)
    gpu_mhz: list[float] = field(default_factory=list)
    throttled: list[str] = field(default_factory=list)
    reference: Candidate | None = None
    pixels_equal: float | None = None
    mask_iou: float | None = None
    dice: float | None = None

    @property
    def place(self) -> Place:
        return "gpu" if self.candidate.uses_gpu else "cpu"

    def figures(self, way: str) -> Figures | None:
        """None where nothing was measured, or it failed on the way: a part of the rounds is not comparable."""
        samples = [sample for block in self.samples[way] for sample in block]
        if not samples or self.error:
            return None
        p10, p50, p95, p99 = (percentile(samples, share) for share in (10, 50, 95, 99))
        mean = fmean(samples)
        return Figures(len(samples), mean, p10, p50, p95, p99, fps=1e3 * self.candidate.batch / mean)

    def limit(self, rates: list[Rate]) -> Limit | str:
        """A text says why it is not known."""
        cost, batch = self.candidate.cost, self.candidate.batch
        if isinstance(cost, str):
            return cost
        floats = _FLOATS.get(self.engine.rpartition(" ")[2], "FP32") if self.place == "cpu" else None
        return limit_of(cost.computed_in(floats), batch, self.place, rates)

    def times_as_fast_as(self, other: Result, way: str) -> Ratio | None:
        """By the medians of the rounds in which both were measured."""
        if self.error or other.error:
            return None
        pairs = zip(self.samples[way], other.samples[way], strict=False)  # an interrupted round may lack the last ones
        images = self.candidate.batch / other.candidate.batch
        ratios = [images * median(theirs) / median(ours) for ours, theirs in pairs]
        return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else None

    @property
    def frames_per_joule(self) -> float | None:
        """Frames per second for each watt, end to end."""
        figures = self.figures("end_to_end")
        return figures.fps / fmean(self.watts) if figures and self.watts and math.fsum(self.watts) > 0 else None


def percentile(samples: list[float], share: int) -> float:
    """The smallest sample that `share` percent of all do not exceed."""
    return float(np.percentile(samples, share, method="inverted_cdf"))


@dataclass(frozen=True)
class Settings:
    """seconds: of each block. data: a folder with images/ and masks/ for Dice; the example frames are compared on where it is None."""

    rounds: int = 5
    seconds: float = 1.0
    data: Path | None = None
    trust: bool = False
    cuda_driver: str = "auto"


@dataclass(frozen=True)
class Benchmark:
    """All of one run. results: the first is what the others are compared with. meter: what was drawing the watts, "" where none told."""

    machine: MachineState
    settings: Settings
    results: list[Result]
    skipped: list[Skipped]
    rates: list[Rate]
    images: int
    meter: str
    interrupted: bool
