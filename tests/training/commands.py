"""Training in processes of its own, started as a user starts it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.training.discs import write_pair

_PACKAGE = Path(__file__).parents[2]
MODULE = ["-m", "qtseg_edge.cli", "train"]


@dataclass(frozen=True)
class Whole:
    """A run without interruption in one process, and what it was made of."""

    data: Path
    start: Path
    run: Path


def arguments(data: Path, start: Path | None, name: str, launcher: tuple[str, ...] = ()) -> list[str]:
    """The command line of the run of `Whole`; its configuration lies beside the data."""
    checkpoint = ["--checkpoint", str(start)] if start else []
    options = ["--data", str(data), "--name", name, "--device", "cpu", "--config", str(data / "config.json"), *checkpoint]
    return [sys.executable, *launcher, *MODULE, *options]


def environment() -> dict[str, str]:
    """One thread per process: their number decides in which order numbers are added up."""
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    paths = [str(_PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def write_larger_data(folder: Path) -> Path:
    """Eight images to train on, three to score: more than one for each of two processes, and not the same number for both."""
    for number in range(8):
        write_pair(folder / "train", f"t{number}", (18 + 4 * number, 44 - 3 * number))
    for number in range(3):
        write_pair(folder / "val", f"v{number}", (24 + 8 * number, 25 + 5 * number))
    config = '{"epochs": 4, "batch": 2, "accumulate": 2, "imgsz": 64, "ema": 0.8, "precision": "fp32", "val_every": 2}'
    (folder / "config.json").write_text(config, encoding="utf-8")
    return folder
