from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from qtseg_edge.calibration import load_calibration_set, require_disjoint
from qtseg_edge.errors import UsageError
from tests.calibration.pictures import scene, write


def split(folder: Path, *frames: np.ndarray, suffix: str = ".png") -> Path:
    for number, frame in enumerate(frames):
        write(folder / "images" / f"v{number:02}{suffix}", frame)
    return folder


def test_other_images_pass(made: Path, tmp_path: Path) -> None:
    require_disjoint(load_calibration_set(made), split(tmp_path, *(scene(number) for number in range(100, 140))))


def test_the_same_pixels_in_another_file_are_found(made: Path, tmp_path: Path) -> None:
    evaluation = split(tmp_path, scene(100), scene(7), suffix=".bmp")
    with pytest.raises(
        UsageError, match=r"1 of its images are also in the calibration set .* \(v01\.bmp = 0007\.png\); calibrate on others: "
    ):
        require_disjoint(load_calibration_set(made), evaluation)


@pytest.mark.parametrize(
    "change",
    [
        lambda rgb: cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        lambda rgb: cv2.resize(rgb, (96, 96)),
        lambda rgb: cv2.imdecode(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR),
        lambda rgb: cv2.convertScaleAbs(rgb, beta=8),
    ],
    ids=["half", "squared", "jpeg", "brighter"],
)
def test_the_same_picture_encoded_resized_or_brightened_is_found(
    made: Path, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    with pytest.raises(UsageError, match=r"\(v00\.png ~ 0012\.png\)"):
        require_disjoint(load_calibration_set(made), split(tmp_path, change(scene(12))))


def test_a_long_list_is_cut(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"33 of its images .* = 0004\.png and 28 more\)"):
        require_disjoint(load_calibration_set(made), split(tmp_path, *(scene(number) for number in range(33)), suffix=".png"))


def test_a_folder_without_images_is_named(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="images: no such folder"):
        require_disjoint(load_calibration_set(made), tmp_path)
