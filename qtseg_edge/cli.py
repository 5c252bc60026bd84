"""The Typer app: the commands of `qtseg_edge/commands/`, their exit codes and their one-line errors.

A command parses, calls the library and prints. No logic lives there, and nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from qtseg_edge import __version__
from qtseg_edge.commands.benchmark import benchmark
from qtseg_edge.commands.build_engine import build_engine
from qtseg_edge.commands.calibrate import calibrate
from qtseg_edge.commands.doctor import doctor
from qtseg_edge.commands.evaluate import evaluate
from qtseg_edge.commands.export import export
from qtseg_edge.commands.export_deepstream import export_deepstream
from qtseg_edge.commands.export_triton import export_triton
from qtseg_edge.commands.inspect import inspect
from qtseg_edge.commands.prepare import prepare
from qtseg_edge.commands.run import run
from qtseg_edge.commands.train import train
from qtseg_edge.console import notice
from qtseg_edge.errors import INTERRUPTED, MissingError, QtsegError, UsageError
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
    **dict.fromkeys(("torch", "safetensors", "kornia", "matplotlib", "pydantic"), "train"),
    **dict.fromkeys(("onnx", "onnxsim", "onnxscript"), "export"),
    **dict.fromkeys(("onnxruntime", "openvino", "av"), "cpu"),
    "transformers": "vit",
    "PIL": "prepare",
}


def main() -> None:
    _open_standard_streams()
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # a damaged image is one line of ours
    app()


def _open_standard_streams() -> None:
    """A service may be started without them: the next file opened would take their place, and be printed into."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (until the process ends)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _exit_codes(command: Callable[..., None]) -> Callable[..., None]:
    """Every error becomes one line on standard error and its documented exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            _require_numbers(kwargs)
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
            raise typer.Exit(INTERRUPTED) from error

    return wrapped


def _require_numbers(options: dict[str, Any]) -> None:
    """Not every version of Typer refuses nan where an option has limits, and nothing compares with it: a gate would pass."""
    for name, value in options.items():
        if isinstance(value, float) and math.isnan(value):
            raise UsageError(f"--{name.replace('_', '-')}: wanted a number, got nan")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qtseg-edge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options before the command."""


for _command in (
    run,
    export,
    calibrate,
    build_engine,
    evaluate,
    benchmark,
    train,
    prepare,
    export_triton,
    export_deepstream,
    inspect,
    doctor,
):
    app.command()(_exit_codes(_command))


if __name__ == "__main__":
    main()
