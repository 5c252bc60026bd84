"""`qtseg-edge prepare`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from qtseg_edge.commands.options import Json
from qtseg_edge.console import notice, print_json, print_table, progress


def prepare(
    name: Annotated[str, typer.Argument(help="isic2016, busi, bkai-igh, dsb2018, fives, kvasir-seg, cvc-clinicdb or drive.")],
    raw: Annotated[Path, typer.Argument(help="The unpacked download.")],
    out: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    fold: Annotated[int | None, typer.Option(min=0, max=4, help="Which fifth validates, 0 when left out.")] = None,
    classes: Annotated[int | None, typer.Option(help="bkai-igh: 2 (polyp) or 3 (neoplastic, non-neoplastic).")] = None,
    as_json: Json = False,
) -> None:
    """Turn the raw download of a published data set into OUT/{train,val,test}/{images,masks} with a manifest, checked."""
    from qtseg_edge.prepare import prepare as prepare_data
    from qtseg_edge.prepare.manifest import manifest_rows

    with progress("prepare", "images", None) as advance:
        prepared = prepare_data(name, raw, out, fold, classes, advance)
    for line in prepared.notices:
        notice(f"note: {line}")
    if as_json:
        print_json({"out": out} | {key: value for key, value in prepared.manifest.items() if key != "files"})
    else:
        print_table(*manifest_rows(prepared.manifest))
    notice(f"next: qtseg-edge train --data {shlex.quote(str(out))}")
