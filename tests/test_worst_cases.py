from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.contact_sheet import CAPTION, COLUMNS, GAP, HEADER, LABEL, PREDICTION, TILE
from qtseg_edge.evaluate import evaluate
from qtseg_edge.worst_cases import worst_picture
from tests.labelled import Answers, Levels, box, fake, four_class_split, marked_split

NOTHING, SQUARE, SHIFTED = box(0, 0, 0, 0), box(10, 10, 30, 30), box(10, 30, 30, 50)
WIDTH = COLUMNS * (TILE + GAP) - GAP
ROW = TILE + CAPTION + GAP


def decoded(png: bytes) -> NDArray[np.uint8]:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]


def picture_of(folder: Path, pairs: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> NDArray[np.uint8]:
    return decoded(worst_picture(evaluate(fake(), marked_split(folder, pairs))))


def tile(picture: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
    top, left = HEADER + index // COLUMNS * ROW, index % COLUMNS * (TILE + GAP)
    return picture[top : top + TILE, left : left + TILE]


def where(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.all(picture == colour, axis=-1)


@pytest.mark.parametrize(("images", "rows"), [(1, 1), (4, 1), (5, 2), (12, 2)])
def test_its_size_follows_the_number_of_cases(tmp_path: Path, images: int, rows: int) -> None:
    picture = picture_of(tmp_path / "a", {f"{index:02}": (SHIFTED, SQUARE) for index in range(images)})
    assert picture.shape == (HEADER + rows * ROW, WIDTH, 3)
    shown = [index for index in range(rows * COLUMNS) if tile(picture, index).any()]
    assert shown == list(range(min(images, 8)))


def test_both_outlines_lie_where_the_masks_are(tmp_path: Path) -> None:
    """96x64 is enlarged to the tile's 320 pixels of width."""
    shown = tile(picture_of(tmp_path / "a", {"a": (SHIFTED, SQUARE)}), 0)
    scale = TILE / 96
    for colour, (left, right) in ((LABEL.colour_rgb, (10, 30)), (PREDICTION.colour_rgb, (30, 50))):
        rows, columns = where(shown, colour).nonzero()
        assert len(rows) > 100
        for found, edge in ((rows.min(), 10), (rows.max(), 30), (columns.min(), left), (columns.max(), right)):
            assert found == pytest.approx(edge * scale, abs=4)


def test_equal_outlines_are_both_seen(tmp_path: Path) -> None:
    shown = tile(picture_of(tmp_path / "a", {"a": (SQUARE, SQUARE)}), 0)
    assert where(shown, LABEL.colour_rgb).sum() > 50
    assert where(shown, PREDICTION.colour_rgb).sum() > 50


def test_a_missed_lesion_has_the_labels_outline_only_and_an_invented_one_the_predictions(tmp_path: Path) -> None:
    picture = picture_of(tmp_path / "a", {"a": (NOTHING, SQUARE), "b": (SQUARE, NOTHING)})
    for index, (with_label, with_prediction) in enumerate([(True, False), (False, True)]):
        assert where(tile(picture, index), LABEL.colour_rgb).any() == with_label
        assert where(tile(picture, index), PREDICTION.colour_rgb).any() == with_prediction


def test_the_legend_shows_both_lines_and_the_captions_are_written(tmp_path: Path) -> None:
    picture = picture_of(tmp_path / "a", {"a": (SHIFTED, SQUARE)})
    assert where(picture[:HEADER], LABEL.colour_rgb).any() and where(picture[:HEADER], PREDICTION.colour_rgb).any()
    assert picture[HEADER + TILE : HEADER + TILE + CAPTION, :TILE].max() > 200


@pytest.mark.parametrize("size_hw", [(300, 40), (40, 300), (700, 900)])
def test_images_of_any_shape_fit_their_tile(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    label = box(size_hw[0] // 4, size_hw[1] // 4, size_hw[0] // 2, size_hw[1] // 2, size_hw)
    split = marked_split(tmp_path / "a", {"a": (label, label)})
    picture = decoded(worst_picture(evaluate(Answers(SQUARE), split)))
    assert where(tile(picture, 0), LABEL.colour_rgb).any()
    assert not picture[:, TILE + GAP :][HEADER:].any()


@pytest.mark.parametrize("name", ["x" * 200, "Läsion 1 \u2603"])
def test_a_name_that_cannot_be_written_in_full_is_cut(tmp_path: Path, name: str) -> None:
    picture = picture_of(tmp_path / "a", {name: (SHIFTED, SQUARE)})
    caption = picture[HEADER + TILE : HEADER + TILE + CAPTION]
    assert caption[:, :TILE].any() and not caption[:, TILE:].any()


def test_a_case_of_several_classes_shows_its_own_class_only(tmp_path: Path) -> None:
    split, _, _ = four_class_split(tmp_path / "a", images=2)
    evaluation = evaluate(Levels(), split)
    water = [case for case in evaluation.worst if case.class_index == 3][:1]  # invented in the second image
    picture = decoded(worst_picture(replace(evaluation, worst=tuple(water))))
    assert not where(tile(picture, 0), LABEL.colour_rgb).any()
    assert where(tile(picture, 0), PREDICTION.colour_rgb).any()


def test_no_case_is_a_header_alone(tmp_path: Path) -> None:
    evaluation = evaluate(fake(), marked_split(tmp_path / "a", {"a": (SQUARE, SQUARE)}))
    assert decoded(worst_picture(replace(evaluation, worst=()))).shape == (HEADER, WIDTH, 3)
