"""No image may serve both to calibrate and to judge the result."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.calibration.calibration_set import CalibrationSet
from qtseg_edge.data import image_files, pixels_sha256, read_image
from qtseg_edge.errors import UsageError

Uint8 = NDArray[np.uint8]
_THUMB = 32  # pixels
# Mean difference of thumbnails by their own contrast. The same picture as JPEG of quality 30, at half size, or 8 levels brighter: below
# 0.06 on Kvasir-SEG, DRIVE and CHASE DB1. Different pictures: 0.37 and more on Kvasir-SEG val, 0.10 between the eyes of DRIVE.
_SAME_BELOW = 0.09
_LEAST_CONTRAST = 0.5  # levels: of a picture with less, noise is all there is to compare
_SHOWN = 5


def require_disjoint(calibration: CalibrationSet, evaluation: Path) -> None:
    """evaluation: a split, DIR/{images,masks}. UsageError that names images of both: equal pixels, or the same picture re-encoded,
    resized (in width and height alike or not) or made a little brighter.

    Cropped, turned or mirrored copies and neighbouring frames of one examination are not found: those only the one who split them knows.
    """
    digests: dict[str, str] = {}
    thumbs = np.empty((len(calibration.images), _THUMB * _THUMB * 3), np.float32)
    for index, image in enumerate(calibration.images):
        rgb = read_image(image.path)
        digests[pixels_sha256(rgb)] = image.path.name
        thumbs[index] = _thumb(rgb)
    shared: list[str] = []
    for path in image_files(evaluation / "images"):
        rgb = read_image(path)
        exact = digests.get(pixels_sha256(rgb))
        differences = np.abs(thumbs - _thumb(rgb)).mean(axis=1)
        nearest = int(differences.argmin())
        if exact is not None:
            shared.append(f"{path.name} = {exact}")
        elif differences[nearest] < _SAME_BELOW:
            shared.append(f"{path.name} ~ {calibration.images[nearest].path.name}")
    if shared:
        more = f" and {len(shared) - _SHOWN} more" if len(shared) > _SHOWN else ""
        raise UsageError(
            f"{evaluation}: {len(shared)} of its images are also in the calibration set {calibration.folder} ({', '.join(shared[:_SHOWN])}"
            f"{more}); calibrate on others: qtseg-edge calibrate SOURCE... -o {calibration.folder}"
        )


def _thumb(rgb: Uint8) -> NDArray[np.float32]:
    """(32 * 32 * 3,): without its mean colour, and 1 from it on average."""
    small = cv2.resize(rgb, (_THUMB, _THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean(axis=(0, 1))
    return small.ravel() / max(float(np.abs(small).mean()), _LEAST_CONTRAST)
