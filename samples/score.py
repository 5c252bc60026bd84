"""Score the masks of the sample clip against its ground truth.

qtseg-edge run --video samples/colonoscopy.mp4 -o masks/
python samples/score.py masks
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from qtseg_edge.data import image_files, read_binary_mask
from qtseg_edge.errors import UsageError
from qtseg_edge.metrics import foreground_overlap

TRUTH = Path(__file__).parent / "colonoscopy-masks"


def main(masks: Annotated[Path, typer.Argument(help="Folder of masks that `run` wrote.")]) -> None:
    """Mean Dice of the frames that show a polyp, and how many of the others are marked."""
    truths = image_files(TRUTH)
    found = [masks / f"colonoscopy_{path.name}" for path in truths]
    missing = [path.name for path in found if not path.is_file()]
    if missing:
        raise UsageError(f"{masks}: {len(missing)} of {len(found)} masks are missing, first {missing[0]}")
    overlaps = [foreground_overlap(read_binary_mask(path), read_binary_mask(truth)) for path, truth in zip(found, truths, strict=True)]
    with_polyp = [overlap for overlap in overlaps if overlap.labelled]
    without = [overlap for overlap in overlaps if not overlap.labelled]
    print(f"mean Dice {np.mean([overlap.dice for overlap in with_polyp]):.4f} on {len(with_polyp)} frames with a polyp")
    print(f"touched   {sum(overlap.intersection > 0 for overlap in with_polyp)} of them")
    print(f"marked    {sum(overlap.predicted > 0 for overlap in without)} of {len(without)} frames without one")


if __name__ == "__main__":
    typer.run(main)
