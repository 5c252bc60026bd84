"""Makes the calibration set of the built-in polyp model: `python calibration/make_default_set.py KVASIR-SEG` (with its train and val).

The choice is the library's own. Its detector leaves out nearly all frames with burnt-in text; what it did not see was found by looking at
every frame that was left, enlarged, and stands in BURNT_IN.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from qtseg_edge.calibration import load_calibration_set, require_disjoint
from qtseg_edge.calibration.make_set import make_calibration_set
from qtseg_edge.console import progress
from qtseg_edge.data import image_files
from qtseg_edge.errors import UsageError

OUT = Path(__file__).parent / "kvasir-seg"
COUNT = 64
CREDIT = (
    "Kvasir-SEG, Jha et al. 2020 (MMM 2020), squared to 352x352; the same frames are contained in HyperKvasir, Borgli et al. 2020 "
    "(Scientific Data 7:283), CC BY 4.0"
)
# train_N.jpg: dates, names of fields, bars, or what remains of them.
BURNT_IN = (
    "28 30 58 87 91 95 128 151 157 202 220 223 230 250 260 273 277 278 291 295 309 314 321 325 327 339 346 348 378 390 401 402 410 430 "
    "461 472 524 535 546 561 581 588 592 596 598 602 612 619 622 640 643 653 657 674 679 692 696 705 710 711 759 773 775 799"
)


def main(data: Annotated[Path, typer.Argument(help="The folder of Kvasir-SEG with train/images and val/images.")]) -> None:
    excluded = {f"train_{number}.jpg" for number in BURNT_IN.split()}
    with tempfile.TemporaryDirectory() as temporary:
        allowed = Path(temporary) / "kvasir-seg-train"
        allowed.mkdir()
        for path in image_files(data / "train" / "images"):
            if path.name not in excluded:
                shutil.copyfile(path, allowed / path.name)
        with progress("calibrate", "frames", None) as advance:
            made = make_calibration_set([str(allowed)], COUNT, OUT, advance, CREDIT)
    if made.manifest["burnt_in"]["chosen"]:
        raise UsageError(f"{data}: the set holds frames with burnt-in text; not the frames this list was made for")
    require_disjoint(load_calibration_set(OUT), data / "val")
    images = image_files(OUT)
    print(f"{OUT}: {len(images)} images, {sum(path.stat().st_size for path in images) / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(main)
