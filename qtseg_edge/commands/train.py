"""`qtseg-edge train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qtseg_edge.console import notice, progress


def train(
    data: Annotated[Path, typer.Option(help="A folder with train/ and val/, each with images/ and masks/.")],
    name: Annotated[str, typer.Option(help="The run is written to runs/train/NAME; one that exists is continued.")] = "polyp",
    checkpoint: Annotated[Path | None, typer.Option(help="Begin with these weights.")] = None,
    card: Annotated[Path | None, typer.Option(help="A model card (JSON) with classes, data, terms and limits.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 60,
    imgsz: Annotated[int, typer.Option(help="Training side, a multiple of 32.")] = 256,
    batch: Annotated[int, typer.Option(min=2)] = 8,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    seed: int = 42,
) -> None:
    """Train a two-class model and keep the weights with the best validation Dice."""
    from qtseg_edge.training.config import TrainConfig
    from qtseg_edge.training.loop import train as train_model

    config = TrainConfig(epochs=epochs, imgsz=imgsz, batch=batch, lr=lr, seed=seed)
    with progress("train", "steps", None) as advance:
        best = train_model(data, Path("runs") / "train" / name, config, card, checkpoint, advance)
    notice(f"best weights: {best}; next: qtseg-edge export {best} -o model.onnx")
