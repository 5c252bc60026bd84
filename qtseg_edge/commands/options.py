"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path | None, typer.Option(help="An .onnx file or a checkpoint; the built-in polyp model when left out.")]
Device = Annotated[str, typer.Option(help="auto, openvino[:f32|:bf16], onnxruntime, torch or fake.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
