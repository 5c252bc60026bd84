"""`qtseg-edge calibrate`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from qtseg_edge.commands.options import Json
from qtseg_edge.console import notice, print_json, print_table, progress


def calibrate(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Videos, images, folders of either, or quoted patterns.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new or empty folder, or an older calibration set to replace.")],
    count: Annotated[int, typer.Option(min=32, max=1024, help="How many images, a quarter of them held out to check the result.")] = 256,
    as_json: Json = False,
) -> None:
    """Choose frames to measure INT8 scales on: spread over time and appearance, without text, hashed and listed in a manifest."""
    from qtseg_edge.calibration.make_set import make_calibration_set, manifest_rows

    with progress("calibrate", "frames", None) as advance:
        made = make_calibration_set(sources, count, output, advance)
    for line in made.notices:
        notice(f"note: {line}")
    if as_json:
        print_json({"out": output} | {key: value for key, value in made.manifest.items() if key != "images"})
    else:
        print_table(*manifest_rows(made.manifest))
    notice(f"next: qtseg-edge build-engine MODEL --precision int8 --calibration {shlex.quote(str(output))}")
