"""From a finished training run to the files that ship: `python models/make_builtin.py runs/train/NAME/best.safetensors`.

Writes `models/kvasir-seg-polyp.safetensors` (weights stored as float16) and from it `qtseg_edge/assets/kvasir-seg-polyp.onnx`.
The card is `kvasir-seg-polyp.card.json` with the scores of the run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from qtseg_edge.export import example_frames, export_checkpoint
from qtseg_edge.model.checkpoint import load_checkpoint, save_checkpoint
from qtseg_edge.spec import ModelCard

NAME = "kvasir-seg-polyp"
HERE = Path(__file__).parent


def main(
    best: Annotated[Path, typer.Argument(help="The checkpoint of the run.")],
    bf16_verified: Annotated[bool, typer.Option("--bf16-verified", help="docs/decisions/measure_devices.py has passed with it.")] = False,
) -> None:
    trained = load_checkpoint(best)
    card = ModelCard.from_json((HERE / f"{NAME}.card.json").read_text(encoding="utf-8"))
    shipped = HERE / f"{NAME}.safetensors"
    save_checkpoint(
        shipped, trained.network, trained.config, replace(card, scores=trained.card.scores, bf16_verified=bf16_verified), torch.float16
    )
    report = export_checkpoint(shipped, HERE.parent / "qtseg_edge" / "assets" / f"{NAME}.onnx", example_frames(), half_weights=True)
    print(f"{report.onnx}: {report.bytes / 1e6:.1f} MB, {report.parity}")


if __name__ == "__main__":
    typer.run(main)
