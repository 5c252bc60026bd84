"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Model = Annotated[Path | None, typer.Option(help="An .onnx file, a checkpoint or an engine; the built-in polyp model when left out.")]
Device = Annotated[str, typer.Option(help="auto, tensorrt, openvino[:f32|:bf16], onnxruntime, torch or fake.")]
Trust = Annotated[bool, typer.Option("--trust", help="Open an engine that another user or machine built. An engine is code.")]
CudaDriver = Annotated[Literal["auto", "cuda-bindings", "pycuda"], typer.Option(help="The package through which an engine reaches CUDA.")]
PowerMode = Annotated[
    str | None,
    typer.Option(
        "--set-power-mode", metavar="MODE", help="Of a Jetson: a name or number, as root. It stays so afterwards.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
