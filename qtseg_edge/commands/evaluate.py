"""`qtseg-edge evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qtseg_edge.commands.options import Device, Json, Model
from qtseg_edge.console import print_json, print_table, progress


def evaluate(
    data: Annotated[Path, typer.Option(help="A split: a folder with images/ and masks/.")],
    model: Model = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score a model on labelled images: mean Dice, IoU and MAE per image at the model's size."""
    from qtseg_edge.data import labelled_images
    from qtseg_edge.evaluate import evaluate as evaluate_split
    from qtseg_edge.report import evaluation_document, evaluation_rows
    from qtseg_edge.runtime import open_backend

    with open_backend(model, device) as backend, progress("evaluate", "images", len(labelled_images(data))) as advance:
        evaluation = evaluate_split(backend, data, advance)
        name = f"{backend.spec.card.name} on {backend.name}"
    if as_json:
        print_json(evaluation_document(evaluation, name, data))
    else:
        print_table(*evaluation_rows(evaluation, name))
