"""`qtseg-edge inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qtseg_edge.commands.options import Json
from qtseg_edge.console import print_json, print_table


def inspect(
    model: Annotated[
        Path | None, typer.Argument(help="An .onnx file, a checkpoint or an engine; the built-in polyp model when left out.")
    ] = None,
    imgsz: Annotated[int | None, typer.Option(help="Count a checkpoint's operations at this side too, a multiple of 32.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a model file is: its card and origin, layers by precision, parameters and multiply-accumulates. Nothing is run."""
    from qtseg_edge.inspection import inspect_model, inspection_document, inspection_rows
    from qtseg_edge.runtime.devices import default_model

    inspection = inspect_model(model or default_model(), imgsz)
    if as_json:
        print_json(inspection_document(inspection))
    else:
        print_table(*inspection_rows(inspection))
