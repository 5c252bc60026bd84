"""`qtseg-edge build-engine`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qtseg_edge.commands.interrupt import interrupt_once
from qtseg_edge.commands.options import Json
from qtseg_edge.console import notice, print_json, print_tables, progress
from qtseg_edge.errors import IncompatibleError, UsageError

if TYPE_CHECKING:
    from qtseg_edge.export.engine import EngineReport, EngineRequest
    from qtseg_edge.runtime.tensorrt_library import Flavour

Patterns = Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Nodes that stay one step higher: 'decoder.stage0.*'; repeat.")]
Capabilities = Annotated[
    list[str] | None,
    typer.Option("--compute-capability", metavar="X.Y", help="TensorRT-RTX: a GPU generation to build for; repeat. All it knows if none."),
]


def build_engine(
    model: Annotated[
        Path | None, typer.Argument(help="An .onnx file or a checkpoint; the built-in polyp model when left out.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="NAME.engine; or NAME.onnx: the graph alone, to be built on another machine.")
    ] = None,
    precision: Annotated[Literal["fp32", "fp16", "int8"], typer.Option(help="What the network computes in.")] = "fp16",
    calibration: Annotated[Path | None, typer.Option(metavar="DIR", help="Made by calibrate; built in for the built-in model.")] = None,
    method: Annotated[Literal["minmax", "entropy", "percentile"], typer.Option(help="Where int8 clips.")] = "percentile",
    exclude: Patterns = None,
    sensitivity: Annotated[bool, typer.Option("--sensitivity", help="int8: show what each layer costs by itself.")] = False,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Labelled images to compare with FP32 on; held-out calibration images if none.")
    ] = None,
    max_dice_loss: Annotated[float, typer.Option(min=0, help="Points of Dice that may be lost, with --data.")] = 0.5,
    min_mask_iou: Annotated[float, typer.Option(min=0, max=1, help="Agreement of the masks with FP32, without --data.")] = 0.93,
    keep_failed: Annotated[bool, typer.Option("--keep-failed", help="Keep what is not accurate enough, as NAME.failed.engine.")] = False,
    flavour: Annotated[
        Literal["auto", "tensorrt", "tensorrt-rtx"], typer.Option(help="Which builder; auto takes tensorrt where both are installed.")
    ] = "auto",
    batch: Annotated[str | None, typer.Option(metavar="MIN:BEST:MAX", help="Batch sizes, for a model of dynamic batch.")] = None,
    compute_capability: Capabilities = None,
    workspace: Annotated[float, typer.Option(min=0.0625, metavar="GIB", help="Memory the builder's choices may need.")] = 1.0,
    optimization_level: Annotated[
        int | None, typer.Option(min=0, max=5, help="How long TensorRT searches; TensorRT-RTX 1.7 does not.", show_default="its own")
    ] = None,
    timing_cache: Annotated[Path | None, typer.Option(help="TensorRT's timings; a file of the user's cache folder when left out.")] = None,
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="Leave an engine alone that this command would give again and this machine opens.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build a TensorRT engine in FP32, FP16 or INT8, and compare it with FP32 before it takes its name."""
    from qtseg_edge.export.builder import BuildOptions
    from qtseg_edge.export.engine import EngineRequest
    from qtseg_edge.export.engine import build_engine as build
    from qtseg_edge.report import engine_document, engine_tables
    from qtseg_edge.runtime.devices import default_model

    interrupt_once()
    source = model or default_model()
    written = output or Path(f"{source.stem}-{precision}.engine")
    options = BuildOptions(
        flavour=_flavour(written) if flavour == "auto" else flavour,
        workspace_gib=workspace,
        optimization_level=optimization_level,
        timing_cache=timing_cache,
        batches=None if batch is None else _batches(batch),
        compute_capabilities=tuple(compute_capability or ()),
    )
    request = EngineRequest(
        model=source,
        output=written,
        precision=precision,
        build=options,
        calibration=calibration,
        data=data,
        method=method,
        exclude=tuple(exclude or ()),
        limit=max_dice_loss if data else min_mask_iou,
        sensitivity=sensitivity,
        keep_failed=keep_failed,
    )
    report = (_reusable(request) if if_needed else None) or build(request, progress)
    if as_json:
        print_json(engine_document(report))
    else:
        print_tables(engine_tables(report))
    report.require()


def _reusable(request: EngineRequest) -> EngineReport | None:
    """The engine that is there. None where there is none that will do; the user is told why the old one does not."""
    from qtseg_edge.export.reuse import reusable_engine

    if request.output.suffix.lower() != ".engine":
        raise UsageError(f"--if-needed: is for engines, got {request.output.name}; leave it out, or name the output NAME.engine")
    if not request.output.is_file():
        return None
    try:
        report = reusable_engine(request)
    except IncompatibleError as error:
        notice(f"building again: {error}")
        return None
    notice(f"{request.output}: is what this command would give, and fits this machine; nothing to build")
    return report


def _flavour(output: Path) -> Flavour:
    """A graph is not built here, so it needs no TensorRT."""
    from qtseg_edge.runtime.tensorrt_library import default_flavour

    return "tensorrt" if output.suffix.lower() == ".onnx" else default_flavour()


def _batches(text: str) -> tuple[int, int, int]:
    parts = text.split(":")
    if len(parts) == 3 and all(part.isascii() and part.isdigit() for part in parts):
        smallest, best, largest = (int(part) for part in parts)
        if 1 <= smallest <= best <= largest:
            return smallest, best, largest
    raise UsageError(f"--batch: wanted MIN:BEST:MAX such as 1:1:8, got {text!r}")
