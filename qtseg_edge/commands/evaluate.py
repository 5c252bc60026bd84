"""`qtseg-edge evaluate`."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qtseg_edge.commands.options import CudaDriver, Device, Json, Trust
from qtseg_edge.console import print_json, print_tables, progress
from qtseg_edge.errors import UsageError

if TYPE_CHECKING:
    from qtseg_edge.evaluate import Evaluation
    from qtseg_edge.runtime import Backend


def evaluate(
    data: Annotated[Path, typer.Option(help="A folder with images/ and masks/, paired by name without suffix.")],
    model: Annotated[
        Path | None, typer.Argument(help="A model file or a checkpoint; the built-in polyp model when left out.", show_default=False)
    ] = None,
    device: Device = "auto",
    compare: Annotated[Path | None, typer.Option(metavar="OTHER", help="A model to subtract, image by image.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Write report.json, images.csv and worst.png there.")
    ] = None,
    authors_metric: Annotated[
        bool, typer.Option("--authors-metric", help="Add Dice and IoU as QTSeg's authors count: no true positive is one.")
    ] = False,
    trust: Trust = False,
    cuda_driver: CudaDriver = "auto",
    as_json: Json = False,
) -> None:
    """Score a model on labelled images: means per image with 95 % intervals, at network size and at original size."""
    from qtseg_edge.comparison import require_same_classes
    from qtseg_edge.data import labelled_images
    from qtseg_edge.evaluation_report import EvaluationReport, evaluation_document, evaluation_tables, write_evaluation
    from qtseg_edge.runtime import open_backend

    images = len(labelled_images(data))  # a wrong folder is told before a model is loaded
    _require_folder_for_output(output, data)
    opened = functools.partial(open_backend, device=device, trust=trust, cuda_driver=cuda_driver)
    with opened(model) as backend, nullcontext() if compare is None else opened(compare) as other:
        if other is not None:
            require_same_classes(backend.spec, other.spec)
        evaluated = _evaluated(backend, data, images)
        compared = None if other is None else _evaluated(other, data, images)
    report = EvaluationReport(data, evaluated, compared, authors_metric)
    if output is not None:
        write_evaluation(report, output)
    if as_json:
        print_json(evaluation_document(report))
    else:
        print_tables(evaluation_tables(report))


def _evaluated(backend: Backend, data: Path, images: int) -> Evaluation:
    from qtseg_edge.evaluate import evaluate as evaluate_folder

    with progress("evaluate", "images", images) as advance:
        return evaluate_folder(backend, data, advance)


def _require_folder_for_output(output: Path | None, data: Path) -> None:
    """Raises UsageError before hours of work: a name that is taken, or a picture among the images that are evaluated."""
    if output is None:
        return
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output {output}: wanted a folder, found a file; give another name")
    if output.resolve() in {(data / name).resolve() for name in ("images", "masks")}:
        raise UsageError(f"--output {output}: is part of the data; give another folder")
