"""`qtseg-edge train`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from qtseg_edge.console import notice, progress
from qtseg_edge.errors import UsageError

Device = Annotated[str, typer.Option(help="auto, cpu or cuda. For more GPUs: torchrun --nproc-per-node N -m qtseg_edge.cli train ...")]


def train(
    data: Annotated[Path, typer.Option(help="A folder with train/ and val/, each with images/ and masks/.")],
    name: Annotated[str, typer.Option(help="The run is written to runs/train/NAME.")] = "model",
    config: Annotated[Path | None, typer.Option(help="JSON with any key of a run's config.json; the options below override it.")] = None,
    card: Annotated[Path | None, typer.Option(help="A model card (JSON) with classes, data, terms and limits.")] = None,
    classes: Annotated[str | None, typer.Option(help="Names in index order, such as background,polyp; instead of a card.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Begin with all of these weights.")] = None,
    encoder: Annotated[str | None, typer.Option(help="cnn, pvt_v2_b0, or a folder or hub id of a transformers backbone.")] = None,
    encoder_weights: Annotated[str | None, typer.Option(help="Begin the encoder with these: a folder, a hub id or a checkpoint.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    imgsz: Annotated[int | None, typer.Option(help="Side of the images, a multiple of 32.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per forward pass.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Forward passes per step, over all processes.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many scored epochs without a better Dice; 0 never.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    seed: int | None = None,
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Some images really show nothing to mark.")] = False,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with runs/train/NAME.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Only write preview.png into the run: what training will see.")] = False,
) -> None:
    """Train a model and keep the weights with the best validation Dice.

    The run holds config.json, results.csv, curves.png, val.png, weights/best.safetensors and weights/last.safetensors.
    """
    from qtseg_edge.training.card import card_for
    from qtseg_edge.training.config import config_from
    from qtseg_edge.training.loop import CONFIG, Request
    from qtseg_edge.training.loop import preview as write_preview
    from qtseg_edge.training.loop import train as train_model
    from qtseg_edge.training.processes import processes

    if name in ("", ".", "..") or Path(name).name != name:
        raise UsageError(f"--name: wanted the name of one folder in runs/train, got {name!r}")
    run = Path("runs") / "train" / name
    if resume and (checkpoint or card or classes):
        raise UsageError("--resume: the run knows its weights and its card; leave out --checkpoint, --card and --classes")
    if resume and not (run / CONFIG).is_file():
        raise UsageError(f"{run}: nothing to resume, no {CONFIG} there; start it without --resume")
    options = {
        "encoder": encoder,
        "encoder_weights": encoder_weights,
        "epochs": epochs,
        "imgsz": imgsz,
        "batch": batch,
        "accumulate": accumulate,
        "lr": lr,
        "patience": patience,
        "precision": precision,
        "seed": seed,
        "allow_empty": allow_empty or None,
    }
    asked = config_from(run / CONFIG if resume and config is None else config, options)
    request = Request(data, run, card_for(name, data, card, classes, asked), checkpoint, resume)
    if preview:
        notice(f"what training will see: {write_preview(request, asked)}")
        return
    with processes(device) as group, progress("train", "steps", None, shown=group.writes) as advance:
        best = train_model(request, asked, group, advance)
    if group.writes:
        notice(f"best weights: {best}; next: qtseg-edge export {shlex.quote(str(best))} -o {shlex.quote(name)}.onnx")
