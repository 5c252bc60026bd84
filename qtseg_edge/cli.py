"""The command line: parse, call the library, print. No logic lives here, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from qtseg_edge import __version__
from qtseg_edge.console import notice, print_json, print_table, progress
from qtseg_edge.errors import MissingError, QtsegError, UsageError
from qtseg_edge.spec import NOTICE

app = typer.Typer(
    name="qtseg-edge",
    help=f"QTSeg medical segmentation from training to the edge. {NOTICE}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_EXTRA_OF_MODULE = {
    **dict.fromkeys(("torch", "safetensors", "kornia"), "train"),
    **dict.fromkeys(("onnx", "onnxsim", "onnxscript"), "export"),
    **dict.fromkeys(("onnxruntime", "openvino", "av"), "cpu"),
}
_INTERRUPTED = 130

Model = Annotated[Path | None, typer.Option(help="An .onnx file or a checkpoint; the built-in polyp model when left out.")]
Device = Annotated[str, typer.Option(help="auto, openvino[:f32|:bf16], onnxruntime, torch or fake.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def main() -> None:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # a damaged image is one line of ours
    app()


def _exit_codes(command: Callable[..., None]) -> Callable[..., None]:
    """Every error becomes one line on standard error and its documented exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except QtsegError as error:
            notice(f"qtseg-edge: {error}")
            raise typer.Exit(error.exit_code) from error
        except ModuleNotFoundError as error:
            extra = _EXTRA_OF_MODULE.get((error.name or "").split(".")[0])
            if extra is None:
                raise
            notice(f"qtseg-edge: {error.name} is not installed; get it with: pip install 'qtseg-edge[{extra}]'")
            raise typer.Exit(MissingError.exit_code) from error
        except OSError as error:  # what only the system knows: a full disk, a name too long, a folder without permission
            notice(f"qtseg-edge: {error.filename or error.filename2 or 'system'}: {error.strerror or error}")
            raise typer.Exit(QtsegError.exit_code) from error
        except KeyboardInterrupt as error:
            notice("qtseg-edge: interrupted")
            raise typer.Exit(_INTERRUPTED) from error

    return wrapped


def _interrupt_once() -> None:
    """The first Ctrl-C or SIGTERM ends the run. Further ones are ignored: they would cut short the finalising of its files."""
    signals = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]

    def interrupt(*_: object) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, interrupt)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qtseg-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options before the command."""


@app.command()
@_exit_codes
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

    _interrupt_once()
    text = str(video) if video else str(source)
    with open_source(text) as opened, open_backend(model, device) as backend:
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
        raise typer.Exit(_INTERRUPTED)


@app.command()
@_exit_codes
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


@app.command()
@_exit_codes
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


@app.command()
@_exit_codes
def train(
    data: Annotated[Path, typer.Option(help="A folder with train/ and val/, each with images/ and masks/.")],
    name: Annotated[str, typer.Option(help="The run is written to runs/train/NAME; one that exists is continued.")] = "polyp",
    checkpoint: Annotated[Path | None, typer.Option(help="Begin with these weights.")] = None,
    card: Annotated[Path | None, typer.Option(help="A model card (JSON) with classes, data, terms and limits.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 60,
    imgsz: Annotated[int, typer.Option(help="Training side, a multiple of 32.")] = 256,
    batch: Annotated[int, typer.Option(min=2)] = 8,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    seed: int = 42,
) -> None:
    """Train a two-class model and keep the weights with the best validation Dice."""
    from qtseg_edge.training.config import TrainConfig
    from qtseg_edge.training.loop import train as train_model

    config = TrainConfig(epochs=epochs, imgsz=imgsz, batch=batch, lr=lr, seed=seed)
    with progress("train", "steps", None) as advance:
        best = train_model(data, Path("runs") / "train" / name, config, card, checkpoint, advance)
    notice(f"best weights: {best}; next: qtseg-edge export {best} -o model.onnx")


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


if __name__ == "__main__":
    main()
