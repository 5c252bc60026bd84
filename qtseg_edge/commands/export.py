"""`qtseg-edge export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qtseg_edge.commands.options import Json
from qtseg_edge.console import print_json, print_table
from qtseg_edge.errors import UsageError


def export(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors checkpoint, or an authors' .pt with its cfg.json beside it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    imgsz: Annotated[str | None, typer.Option(help="352 or 224x384 (height x width); the model's own when left out.")] = None,
    batch: Annotated[str, typer.Option(help="A number of images, or dynamic.")] = "1",
    opset: Annotated[int, typer.Option(help="ONNX opset, 18 to 20.")] = 19,
    images: Annotated[Path | None, typer.Option(help="A folder of real frames to compare on; endoscopy frames when left out.")] = None,
    half_weights: Annotated[bool, typer.Option("--half-weights", help="Store weights as float16: half the file, same arithmetic.")] = False,
    as_json: Json = False,
) -> None:
    """Write the frame-in, mask-out ONNX file, after comparing it with torch on real images."""
    size_hw, images_at_once = _size_hw(imgsz), _batch(batch)
    from qtseg_edge.export import example_frames, export_checkpoint
    from qtseg_edge.report import export_document, export_rows

    report = export_checkpoint(checkpoint, output, images or example_frames(), size_hw, images_at_once, opset, half_weights)
    if as_json:
        print_json(export_document(report))
    else:
        print_table(*export_rows(report))


def _size_hw(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise UsageError(f"--imgsz: wanted 352 or 224x384 (height x width), got {text!r}")
    return int(sides[0]), int(sides[-1])


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 64):
        raise UsageError(f"--batch: wanted dynamic or a number from 1 to 64, got {text!r}")
    return int(text)
