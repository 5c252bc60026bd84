from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from qtseg_edge.training.results import write_curves, write_results
from tests.disks import small_disk
from tests.training.discs import rows

NAMES = ("epoch", "imgsz", "lr", "train_loss", "val_loss", "val_dice", "val_iou", "seconds")


def results(dice: list[float]) -> list[dict[str, float]]:
    return [dict(zip(NAMES, (epoch, 64, 1e-3 / 3, 0.5, 0.6, value, value / 2, 1.5), strict=True)) for epoch, value in enumerate(dice)]


def drawn(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def test_every_scored_epoch_is_a_row_of_six_digits(tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", results([0.25, 2 / 3]))
    assert (tmp_path / "results.csv").read_text(encoding="utf-8").splitlines() == [
        ",".join(NAMES),
        "0,64,0.000333333,0.5,0.6,0.25,0.125,1.5",
        "1,64,0.000333333,0.5,0.6,0.666667,0.333333,1.5",
    ]


def test_rows_written_before_are_replaced(tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", results([0.1, 0.2, 0.3]))
    write_results(tmp_path / "results.csv", results([0.4]))
    assert [row["val_dice"] for row in rows(tmp_path)] == [0.4]


@pytest.mark.parametrize("count", [1, 2, 30])
def test_curves_are_a_picture_however_many_epochs_there_are(tmp_path: Path, count: int) -> None:
    write_curves(tmp_path / "curves.png", results([0.1] * count))
    picture = drawn(tmp_path / "curves.png")
    assert picture.shape[0] > 300 and picture.shape[1] > 1000
    assert picture.std() > 10, "not one colour"


def test_curves_show_what_was_scored(tmp_path: Path) -> None:
    pictures = []
    for dice in ([0.1, 0.2, 0.3], [0.1, 0.3, 0.2]):
        write_curves(tmp_path / "curves.png", results(dice))
        pictures.append(drawn(tmp_path / "curves.png"))
    assert not np.array_equal(*pictures)


def test_a_full_disk_keeps_the_rows_and_curves_that_were_there(tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", results([0.1]))
    write_curves(tmp_path / "curves.png", results([0.1]))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with small_disk(), pytest.raises(OSError, match="too large"):
        write_results(tmp_path / "results.csv", results([0.1] * 1000))
    with small_disk(), pytest.raises(OSError, match="too large"):
        write_curves(tmp_path / "curves.png", results([0.1] * 1000))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
