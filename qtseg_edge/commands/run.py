"""`qtseg-edge run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from qtseg_edge.commands.interrupt import interrupt_once
from qtseg_edge.commands.options import CudaDriver, Device, Json, Model, Trust
from qtseg_edge.console import notice, print_json, print_table, progress
from qtseg_edge.errors import INTERRUPTED, UsageError
from qtseg_edge.spec import NOTICE


def run(
    video: Annotated[Path | None, typer.Option(help="A video file.")] = None,
    source: Annotated[str | None, typer.Option(help="An image, a directory of images, or a quoted pattern.")] = None,
    model: Model = None,
    device: Device = "auto",
    output: Annotated[
        list[str] | None, typer.Option("--output", "-o", help="out.mp4, out.png, masks/, out.jsonl or null://; repeatable.")
    ] = None,
    alpha: Annotated[float, typer.Option(min=0.0, max=1.0, help="Opacity of the tint.")] = 0.4,
    threshold: Annotated[float | None, typer.Option(help="Foreground probability from which a pixel counts.")] = None,
    policy: Annotated[Literal["all", "latest"], typer.Option(help="Segment every frame, or drop what cannot keep up.")] = "all",
    trust: Trust = False,
    cuda_driver: CudaDriver = "auto",
    as_json: Json = False,
) -> None:
    """Put the mask on a video, an image or a folder of images.

    Without --output the overlay is written to NAME-overlay.mp4 (or .png, of a single image) in the current folder.
    """
    if (video is None) == (source is None):
        raise UsageError("run: wanted either --video FILE or --source SOURCE")
    from qtseg_edge.report import run_document, run_rows
    from qtseg_edge.runtime import Pipeline, Segmenter, open_backend, open_source
    from qtseg_edge.runtime.sinks import default_output, open_sinks

    interrupt_once()
    text = str(video) if video else str(source)
    with open_source(text) as opened, open_backend(model, device, trust=trust, cuda_driver=cuda_driver) as backend:
        segmenter = Segmenter(backend, threshold)
        outputs = output or [default_output(opened.info)]
        sinks = open_sinks(outputs, opened.info)
        notice(f"{backend.spec.card.name} on {backend.name}. {NOTICE}")
        with progress("run", "frames", opened.info.frames) as advance:
            report = Pipeline(opened, segmenter, sinks, alpha, policy, advance).run()
        if as_json:
            print_json(run_document(report, backend, text, outputs))
        else:
            print_table(*run_rows(report, outputs))
    if report.error is not None:
        raise report.error
    if report.interrupted:
        notice(f"qtseg-edge: interrupted; {'the outputs hold every frame up to here' if report.frames else 'nothing was written'}")
        raise typer.Exit(INTERRUPTED)
