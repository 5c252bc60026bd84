"""`qtseg-edge benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qtseg_edge.commands.interrupt import interrupt_once
from qtseg_edge.commands.options import CudaDriver, Json, PowerMode, Trust
from qtseg_edge.commands.power_mode import change_power_mode
from qtseg_edge.console import notice, print_json, print_tables
from qtseg_edge.errors import INTERRUPTED, UsageError

_STRIDE, _MOST_IMAGES = 32, 64


def benchmark(
    models: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[MODEL]...", help="Checkpoints, .onnx files, engines; the built-in model if none.", show_default=False),
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="As of run; repeatable. Every one that works here when left out.", show_default=False)
    ] = None,
    imgsz: Annotated[
        list[str] | None,
        typer.Option(metavar="LIST", help="256,352 or 224x384 (height x width), for checkpoints.", show_default=False),
    ] = None,
    batch: Annotated[list[str] | None, typer.Option(metavar="LIST", help="1,8: images in one call.", show_default=False)] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Labelled images for Dice: images/ and masks/.", show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often every candidate has its turn.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, help="How long a turn measures, device only and again end to end.")] = 1.0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write benchmark.json, .md and .png there.", show_default=False),
    ] = None,
    fail_over_ms: Annotated[float | None, typer.Option(help="Exit code 5 where a median end to end is longer.", show_default=False)] = None,
    fail_under_dice: Annotated[float | None, typer.Option(help="Exit code 5 where a Dice (x 100) is lower.", show_default=False)] = None,
    trust: Trust = False,
    cuda_driver: CudaDriver = "auto",
    power_mode: PowerMode = None,
    as_json: Json = False,
) -> None:
    """Compare models on the backends of this machine: latency, throughput, memory and accuracy, beside what the machine could do at best.

    Candidates take turns, so that what disturbs the machine hits all alike. The first one is what the others are compared with.
    """
    from qtseg_edge.benchmark.candidates import Wanted
    from qtseg_edge.benchmark.machine import machine_state
    from qtseg_edge.benchmark.report import benchmark_document, benchmark_notes, benchmark_tables, benchmark_warnings, write_benchmark
    from qtseg_edge.benchmark.results import Settings
    from qtseg_edge.benchmark.run import benchmark as run_benchmark
    from qtseg_edge.benchmark.run import require
    from qtseg_edge.runtime.devices import default_model

    interrupt_once()
    wanted = Wanted(tuple(models or [default_model()]), tuple(device or ()), _sizes(_joined(imgsz)), _batches(_joined(batch)))
    settings = Settings(rounds, seconds, data, trust, cuda_driver)
    if fail_under_dice is not None and data is None:
        raise UsageError("--fail-under-dice: Dice needs labels: add --data DIR")
    _require_output(output, data)
    change_power_mode(power_mode)
    machine = machine_state()
    if not machine.is_quiet and machine.load_average:
        notice(f"benchmark: this machine is busy (load average {machine.load_average[0]:.2f}): times are too long, ratios less so")
    done = run_benchmark(wanted, settings, machine, notice)
    if output is not None:
        write_benchmark(done, output)
    if as_json:
        print_json(benchmark_document(done))
    else:
        print_tables(benchmark_tables(done))
        for note in benchmark_notes(done):
            print(f"not measured: {note}")
        for warning in benchmark_warnings(done):
            print(f"throttled: {warning}")
    if done.interrupted:
        notice("qtseg-edge: interrupted; above is what was measured until then")
        raise typer.Exit(INTERRUPTED)
    require(done, fail_over_ms, fail_under_dice)


def _joined(lists: list[str] | None) -> str | None:
    """`--batch 1 --batch 8` is `--batch 1,8`: the last alone would be measured, and nobody told."""
    return None if not lists else ",".join(lists)


def _sizes(text: str | None) -> tuple[tuple[int, int], ...]:
    found = []
    for part in text.lower().split(",") if text is not None else ():
        sides = [int(side) if side.isascii() and side.isdigit() else 0 for side in part.strip().split("x")]
        if len(sides) > 2 or any(side < _STRIDE or side % _STRIDE for side in sides):
            raise UsageError(f"--imgsz: wanted multiples of {_STRIDE} such as 256,352 or 224x384 (height x width), got {text!r}")
        found.append((sides[0], sides[-1]))
    return tuple(dict.fromkeys(found))


def _batches(text: str | None) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")] if text is not None else []
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= _MOST_IMAGES for part in parts):
        raise UsageError(f"--batch: wanted numbers from 1 to {_MOST_IMAGES} such as 1,8, got {text!r}")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _require_output(output: Path | None, data: Path | None) -> None:
    """Before minutes of work: a name that is taken, a picture among the images, and a package that draws it."""
    if output is None:
        return
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output {output}: wanted a folder, found a file; give another name")
    if data is not None and output.resolve() in {(data / "images").resolve(), (data / "masks").resolve()}:
        raise UsageError(f"--output {output}: is part of the data; give another folder")
    import matplotlib  # noqa: F401
