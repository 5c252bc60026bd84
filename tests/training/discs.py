"""Pictures of discs, small enough to train on here, and runs on them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from qtseg_edge.console import OnProgress
from qtseg_edge.model.checkpoint import load_checkpoint, save_checkpoint
from qtseg_edge.model.network import NetworkConfig, build_network
from qtseg_edge.spec import ModelCard
from qtseg_edge.training.config import TrainConfig
from qtseg_edge.training.loop import Request, train
from qtseg_edge.training.processes import Processes

ALONE = Processes(0, 1, torch.device("cpu"))
DISC = ModelCard("disc", ("background", "disc"), ((0, 0, 0), (255, 0, 0)), (64, 64), "scale", scores={"val_dice": 2.0}, licence="CC0")
TWO_DISCS = ModelCard("discs", ("background", "pink", "blue"), ((0, 0, 0), (255, 0, 0), (0, 0, 255)), (64, 64), "scale")
QUICK = TrainConfig(epochs=3, batch=2, imgsz=64, ema=0.8)
_GREEN, _PINK, _BLUE = (60, 80, 60), (90, 60, 230), (230, 90, 60)  # BGR
Step = tuple[int, int | None, str]


@dataclass(frozen=True)
class Run:
    """A finished run. told: every call of its `advance`."""

    folder: Path
    best: Path
    told: list[Step]

    @property
    def steps(self) -> list[Step]:
        return [step for step in self.told if step[2].startswith("epoch")]


def write_pair(split: Path, name: str, centre: tuple[int, int], size_hw: tuple[int, int] = (64, 64)) -> None:
    """A pink disc on green and its mask of 0 and 255."""
    disc = _disc(centre, size_hw)
    write_image(split / "images" / f"{name}.png", np.where(disc[..., None], _PINK, _GREEN))
    write_image(split / "masks" / f"{name}.png", disc * 255)


def write_two_discs(split: Path, name: str, pink: tuple[int, int], blue: tuple[int, int]) -> None:
    """A pink and a blue disc on green, and the mask of their class indices, 1 and 2."""
    labels = np.where(_disc(blue, (64, 64)), 2, _disc(pink, (64, 64)))
    write_image(split / "images" / f"{name}.png", np.array([_GREEN, _PINK, _BLUE])[labels])
    write_image(split / "masks" / f"{name}.png", labels)


def write_image(path: Path, pixels: np.ndarray) -> Path:
    """Colours in BGR; numbers of any type, 0 to 255 unless they are uint16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint8))[1].tobytes())
    return path


def write_data(folder: Path) -> Path:
    for number, centre in enumerate([(20, 30), (40, 22), (32, 44)]):
        write_pair(folder / "train", f"t{number}", centre)
    write_pair(folder / "train", "wide", (20, 60), (48, 96))
    write_pair(folder / "val", "v0", (28, 28))
    write_pair(folder / "val", "tall", (60, 24), (96, 48))
    return folder


def write_small_start(path: Path, card: ModelCard) -> Path:
    """Of random weights, a size up from the `start` of the fixture: large enough to learn discs, and still quick."""
    torch.manual_seed(0)
    config = NetworkConfig(8, len(card.classes), (1, 1, 1), 4, 32)
    save_checkpoint(path, build_network(config), config, card)
    return path


def go(
    data: Path,
    run: Path,
    config: TrainConfig = QUICK,
    *,
    card: ModelCard = DISC,
    checkpoint: Path | None = None,
    resume: bool = False,
    advance: OnProgress | None = None,
) -> Path:
    return train(Request(data, run, card, checkpoint, resume), config, ALONE, advance or quietly)


def quietly(done: int, total: int | None = None, note: str = "") -> None:
    pass


def collecting(steps: list[Step]) -> OnProgress:
    def advance(done: int, total: int | None = None, note: str = "") -> None:
        steps.append((done, total, note))

    return advance


class Interrupted(Exception):
    pass


def interrupting(step: int) -> OnProgress:
    """Ends the run after a step, counted from 1."""

    def advance(done: int, total: int | None = None, note: str = "") -> None:
        if note.startswith("epoch") and done == step:
            raise Interrupted

    return advance


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "results.csv").open(encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def rows_but_seconds(run: Path) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(run)]


def different_weights(first: Path, second: Path) -> list[str]:
    """Names of the tensors of two checkpoints that are not equal bit by bit."""
    states = [load_checkpoint(path).network.state_dict() for path in (first, second)]
    assert states[0].keys() == states[1].keys()
    return [name for name in states[0] if not torch.equal(states[0][name], states[1][name])]


def copied(run: Path, to: Path) -> Path:
    for path in run.rglob("*"):
        if path.is_file():
            (to / path.relative_to(run)).parent.mkdir(parents=True, exist_ok=True)
            (to / path.relative_to(run)).write_bytes(path.read_bytes())
    return to


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def _disc(centre: tuple[int, int], size_hw: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return np.hypot(y - centre[0], x - centre[1]) < 14
