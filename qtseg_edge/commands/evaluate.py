"""`qtseg-edge evaluate`."""

from __future__ import annotations

import functools
from collections.abc import Callable
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
    data: Annotated[
        Path | None, typer.Option(help="A folder with images/ and masks/, paired by name without suffix.", show_default=False)
    ] = None,
    sequence: Annotated[
        list[Path] | None, typer.Option(help="Instead of --data: a video, or a folder of frames. Repeatable.", show_default=False)
    ] = None,
    masks: Annotated[
        list[Path] | None, typer.Option(help="A folder with the mask of every frame, one for each --sequence.", show_default=False)
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second of a --sequence that is a folder.", show_default=False)] = None,
    model: Annotated[
        Path | None, typer.Argument(help="A model file or a checkpoint; the built-in polyp model when left out.", show_default=False)
    ] = None,
    device: Device = "auto",
    compare: Annotated[Path | None, typer.Option(metavar="OTHER", help="A model to subtract, image by image.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write report.json there, and images.csv and worst.png, or timeline-1.png."),
    ] = None,
    authors_metric: Annotated[
        bool, typer.Option("--authors-metric", help="Add Dice and IoU as QTSeg's authors count: no true positive is one.")
    ] = False,
    trust: Trust = False,
    cuda_driver: CudaDriver = "auto",
    as_json: Json = False,
) -> None:
    """Score a model on labelled images: means per image with 95 % intervals, at network size and at original size.

    With --sequence on labelled video: lesions found, false alarms per minute, delay and flicker, with and without the temporal filter.
    """
    from qtseg_edge.runtime import open_backend

    opened = functools.partial(open_backend, device=device, trust=trust, cuda_driver=cuda_driver)
    if sequence:
        _require_only_sequences(data, compare, authors_metric)
        _evaluate_sequences(opened, model, sequence, masks or [], fps, output, as_json)
        return
    if data is None:
        raise UsageError("evaluate: wanted --data DIR, or --sequence VIDEO --masks DIR")
    if masks or fps is not None:
        raise UsageError(f"{'--masks' if masks else '--fps'}: goes with --sequence; of --data the masks are in {data / 'masks'}")
    _evaluate_images(opened, model, compare, data, output, authors_metric, as_json)


def _evaluate_images(
    opened: Callable[[Path | None], Backend],
    model: Path | None,
    compare: Path | None,
    data: Path,
    output: Path | None,
    authors_metric: bool,
    as_json: bool,
) -> None:
    from qtseg_edge.comparison import require_same_classes
    from qtseg_edge.data import labelled_images
    from qtseg_edge.evaluation_report import EvaluationReport, evaluation_document, evaluation_tables, write_evaluation

    images = len(labelled_images(data))  # a wrong folder is told before a model is loaded
    _require_folder_for_output(output, [data / "images", data / "masks"])
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


def _evaluate_sequences(
    opened: Callable[[Path | None], Backend],
    model: Path | None,
    paths: list[Path],
    masks: list[Path],
    fps: float | None,
    output: Path | None,
    as_json: bool,
) -> None:
    from qtseg_edge.sequences.evaluation import evaluate_sequence
    from qtseg_edge.sequences.labelled import LabelledSequence
    from qtseg_edge.sequences.report import sequence_document, sequence_tables, write_sequences

    if len(paths) != len(masks):
        raise UsageError(f"evaluate: wanted one --masks DIR for each --sequence, got {len(paths)} sequences and {len(masks)} folders")
    if fps is not None and not any(path.is_dir() for path in paths):
        raise UsageError(f"--fps: is for folders of frames, {paths[0]} carries its own times; leave it out")
    sequences = [LabelledSequence(path, folder, fps) for path, folder in zip(paths, masks, strict=True)]
    _require_folder_for_output(output, [*paths, *masks])
    if output is not None:
        import matplotlib  # noqa: F401 (that it is missing is told before hours of work)
    evaluations = []
    with opened(model) as backend:
        for labelled in sequences:
            with progress(labelled.name, "frames", len(labelled)) as advance:
                evaluations.append(evaluate_sequence(backend, labelled, advance))
    if output is not None:
        write_sequences(evaluations, output)
    if as_json:
        print_json(sequence_document(evaluations))
    else:
        print_tables(sequence_tables(evaluations))


def _evaluated(backend: Backend, data: Path, images: int) -> Evaluation:
    from qtseg_edge.evaluate import evaluate as evaluate_folder

    with progress("evaluate", "images", images) as advance:
        return evaluate_folder(backend, data, advance)


def _require_only_sequences(data: Path | None, compare: Path | None, authors_metric: bool) -> None:
    given = {"--data": data is not None, "--compare": compare is not None, "--authors-metric": authors_metric}
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"{option}: is for labelled images, --sequence for labelled video; leave one of them out")


def _require_folder_for_output(output: Path | None, inputs: list[Path]) -> None:
    """Raises UsageError before hours of work: a name that is taken, or a picture among the images that are evaluated."""
    if output is None:
        return
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output {output}: wanted a folder, found a file; give another name")
    if output.resolve() in {path.resolve() for path in inputs}:
        raise UsageError(f"--output {output}: is part of the data; give another folder")
