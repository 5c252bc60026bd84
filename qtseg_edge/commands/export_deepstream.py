"""`qtseg-edge export-deepstream`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from qtseg_edge.commands.options import Trust
from qtseg_edge.errors import UsageError


def export_deepstream(
    model: Annotated[Path, typer.Argument(help="An engine; or, with --triton, the .onnx file or engine that is served there.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder.")] = Path("deepstream"),
    streams: Annotated[int, typer.Option(min=1, max=1024, help="How many sources nvstreammux gathers.")] = 1,
    frame: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="What nvstreammux makes of each frame.")] = "1920x1080",
    triton: Annotated[
        str | None, typer.Option(help="HOST:PORT (gRPC), or a model repository of export-triton: use nvinferserver.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name there; that of the model card if none.", show_default=False)] = None,
    preprocess_library: Annotated[
        str, typer.Option(metavar="PATH", help="NVIDIA's, built on the device, without --triton.")
    ] = "libcustom2d_preprocess.so",
    trust: Trust = False,
) -> None:
    """Write DeepStream configuration, labels and a program that reads the masks. Checked against NVIDIA's documentation, never run."""
    from qtseg_edge.serving.deepstream import PROGRAM, DeepStreamOptions, write_deepstream
    from qtseg_edge.serving.servable import read_servable

    servable = read_servable(model, trust)
    triton_model = servable.spec.card.name if name is None else name
    options = DeepStreamOptions(streams, _frame_hw(frame), triton, triton_model, preprocess_library)
    files = write_deepstream(output, servable, options)
    print(f"written     {output}: {', '.join(files)}")
    print(
        f"start       python3 {shlex.quote(str(output / PROGRAM))} file:///PATH/TO/VIDEO.mp4 --frame {frame}   # in DeepStream, with pyds"
    )
    if triton is None:
        print("needs       DeepStream 8.0 or newer, and NVIDIA's preprocessing library (docs/guides/serving.md), not the bundled one")
    print("unverified  all of it: keys and values were checked against NVIDIA's documentation, no DeepStream has read them")


def _frame_hw(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() and 16 <= int(side) <= 8192 for side in sides):
        raise UsageError(f"--frame: wanted WIDTHxHEIGHT such as 1920x1080, from 16 to 8192 each, got {text!r}")
    return int(sides[1]), int(sides[0])
