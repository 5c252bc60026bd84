from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.data_checks import check_splits
from qtseg_edge.errors import UsageError

BINARY = ("background", "lesion")
THREE = ("background", "polyp", "instrument")


def write(path: Path, pixels: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def picture(seed: int, size_hw: tuple[int, int] = (24, 32)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8)


def mask(level: int = 255, size_hw: tuple[int, int] = (24, 32)) -> NDArray[np.uint8]:
    """Background and, in its middle, one level."""
    pixels = np.zeros(size_hw, np.uint8)
    pixels[6:14, 8:20] = level
    return pixels


def indices(highest: int = 2) -> NDArray[np.uint8]:
    pixels = mask(1)
    pixels[0:4] = highest
    return pixels


def splits(folder: Path, level: NDArray[np.uint8] | None = None) -> list[Path]:
    """Two images to train on and one to score, all in order. Returns the two folders."""
    for split, names in (("train", "ab"), ("val", "v")):
        for number, name in enumerate(names):
            write(folder / split / "images" / f"{name}.png", picture(len(split) * 10 + number))
            write(folder / split / "masks" / f"{name}.png", mask() if level is None else level)
    return [folder / "train", folder / "val"]


def problems(folders: list[Path], classes: tuple[str, ...] = BINARY, allow_empty: bool = False) -> list[str]:
    """What is listed below the first line, which counts it."""
    with pytest.raises(UsageError) as caught:
        check_splits(folders, classes, allow_empty)
    first, *lines = str(caught.value).split("\n  ")
    assert first == f"the training data has {len(lines)} problem{'s' if len(lines) > 1 else ''}:"
    return lines


# --- nothing to find ----------------------------------------------------------------------------------------------------------------


def test_data_in_order_gives_a_fingerprint(tmp_path: Path) -> None:
    assert re.fullmatch("[0-9a-f]{64}", check_splits(splits(tmp_path), BINARY, allow_empty=False))


def test_every_pair_is_told_as_it_is_read(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    check_splits(splits(tmp_path), BINARY, False, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_masks_as_jpeg_and_png_images_with_opacity_and_in_grey_are_accepted(tmp_path: Path) -> None:
    folders = splits(tmp_path)
    write(folders[0] / "images" / "rgba.png", np.dstack([picture(1), np.full((24, 32), 90, np.uint8)]))
    write(folders[0] / "masks" / "rgba.jpg", mask())
    write(folders[0] / "images" / "grey.jpg", picture(2)[..., 0])
    write(folders[0] / "masks" / "grey.tif", mask(1))
    check_splits(folders, BINARY, allow_empty=False)


def test_a_mask_of_two_classes_with_greys_is_named(tmp_path: Path) -> None:
    """An outline softened by a drawing program, or the numbers of classes nobody spoke of."""
    folders = splits(tmp_path, mask(128))
    soft = mask(128)
    soft[6, 8:20] = 3
    path = write(folders[0] / "masks" / "a.png", soft)
    assert problems(folders) == [f"{path}: wanted a mask of two levels, got 3 from 0 to 128; cut it where the edge is"]


def test_indices_of_several_classes_are_accepted(tmp_path: Path) -> None:
    check_splits(splits(tmp_path, indices()), THREE, allow_empty=False)


def test_a_class_that_only_validation_lacks_is_no_problem(tmp_path: Path) -> None:
    folders = splits(tmp_path, indices())
    write(folders[1] / "masks" / "v.png", mask(1))
    check_splits(folders, THREE, allow_empty=False)


# --- one problem --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "missing"), [("images", "masks"), ("masks", "images")])
def test_a_file_without_its_partner_is_named(tmp_path: Path, folder: str, missing: str) -> None:
    folders = splits(tmp_path)
    alone = write(folders[1] / folder / "alone.png", mask())
    assert problems(folders) == [f"{alone}: no {missing[:-1]} of that name in {folders[1] / missing}"]


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_a_file_that_does_not_decode_is_named(tmp_path: Path, folder: str) -> None:
    folders = splits(tmp_path)
    (folders[0] / folder / "a.png").write_bytes(b"text")
    assert problems(folders) == [f"{folders[0] / folder / 'a.png'}: wanted an image, but it does not decode (4 bytes)"]


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path: Path) -> None:
    folders = splits(tmp_path)
    path = write(folders[0] / "masks" / "b.png", mask(size_hw=(32, 24)))
    assert problems(folders) == [f"{path}: mask of 24x32 for an image of 32x24"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_mask_is_named_with_what_allows_it(tmp_path: Path, split: str) -> None:
    folders = splits(tmp_path)
    path = write(sorted((tmp_path / split / "masks").iterdir())[0], mask(0))
    assert problems(folders) == [f"{path}: empty; where these images really show nothing to mark, pass --allow-empty"]


def test_empty_masks_are_accepted_where_they_are_meant_but_not_as_all_there_is_to_score(tmp_path: Path) -> None:
    folders = splits(tmp_path)
    write(folders[0] / "masks" / "a.png", mask(0))
    check_splits(folders, BINARY, allow_empty=True)
    write(folders[1] / "masks" / "v.png", mask(0))
    assert problems(folders, allow_empty=True) == [f"{folders[1] / 'masks'}: no foreground in any mask; nothing can be scored on it"]


def test_class_indices_beyond_the_classes_are_named_with_the_highest(tmp_path: Path) -> None:
    folders = splits(tmp_path, indices())
    path = write(folders[0] / "masks" / "b.png", indices(3))
    assert problems(folders, THREE) == [f"{path}: wanted class indices below 3, got 3"]


def test_grey_values_are_no_class_indices(tmp_path: Path) -> None:
    folders = splits(tmp_path, indices())
    path = write(folders[1] / "masks" / "v.png", mask(128))
    assert problems(folders, THREE) == [f"{path}: wanted class indices below 3, got 128"]


def test_an_image_of_sixteen_bits_is_named(tmp_path: Path) -> None:
    folders = splits(tmp_path)
    path = write(folders[0] / "images" / "a.png", picture(3).astype(np.uint16) * 257)
    (line,) = problems(folders)
    assert line.startswith(f"{path}: wanted 8 bits per channel, got uint16; ")


@pytest.mark.parametrize(("level", "allow_empty", "missing"), [(0, True, "lesion"), (255, False, "background")])
def test_one_class_only_cannot_be_learnt(tmp_path: Path, level: int, allow_empty: bool, missing: str) -> None:
    folders = splits(tmp_path)
    for name in ("a", "b"):
        write(folders[0] / "masks" / f"{name}.png", np.full((24, 32), level, np.uint8))
    assert problems(folders, allow_empty=allow_empty) == [
        f"{folders[0] / 'masks'}: no pixel of {missing} in any mask; nothing can be learnt of it"
    ]


def test_classes_that_no_mask_to_train_on_has_are_named_together(tmp_path: Path) -> None:
    folders = splits(tmp_path, mask(1))
    write(folders[1] / "masks" / "v.png", indices(3))
    (line,) = problems(folders, (*THREE, "light"))
    assert line.startswith(f"{folders[0] / 'masks'}: no pixel of instrument, light in any mask")


@pytest.mark.parametrize("name", ["a.png", "other.bmp", "other.tif"])
def test_the_same_pixels_in_both_splits_are_found_under_any_name(tmp_path: Path, name: str) -> None:
    folders = splits(tmp_path)
    path = write(folders[1] / "images" / name, picture(50))
    write(folders[1] / "masks" / f"{path.stem}.png", mask())
    assert problems(folders) == [
        f"{path}: the same image as {folders[0] / 'images' / 'a.png'}; scores on it would mean nothing, remove one"
    ]


def test_the_same_image_twice_in_one_split_is_left_alone(tmp_path: Path) -> None:
    """Its owner may want it seen more often; no score is wrong because of it."""
    folders = splits(tmp_path)
    write(folders[0] / "images" / "c.png", picture(50))
    write(folders[0] / "masks" / "c.png", mask())
    check_splits(folders, BINARY, allow_empty=False)


def test_the_same_mask_in_both_splits_is_no_problem(tmp_path: Path) -> None:
    folders = splits(tmp_path)
    assert (folders[0] / "masks" / "a.png").read_bytes() == (folders[1] / "masks" / "v.png").read_bytes()
    check_splits(folders, BINARY, allow_empty=False)


# --- folders ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "message"),
    [("train", r"train/images: no such folder"), ("val", r"val/images: no such folder"), ("val/masks", r"val/masks: no such folder")],
)
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, missing: str, message: str) -> None:
    folders = splits(tmp_path)
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=message):
        check_splits(folders, BINARY, allow_empty=False)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    folders = splits(tmp_path)
    for path in (folders[0] / "images").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match=r"train/images: no images \("):
        check_splits(folders, BINARY, allow_empty=False)


def test_two_images_that_differ_by_their_suffix_are_named(tmp_path: Path) -> None:
    folders = splits(tmp_path)
    write(folders[0] / "images" / "a.jpg", picture(9))
    with pytest.raises(UsageError, match=r"train/images: a\.jpg and a\.png have the same stem"):
        check_splits(folders, BINARY, allow_empty=False)


# --- many problems ------------------------------------------------------------------------------------------------------------------


def test_all_problems_of_both_splits_are_listed_at_once(tmp_path: Path) -> None:
    folders = splits(tmp_path, indices())
    train, val = folders
    write(train / "images" / "alone.png", picture(1))
    (train / "images" / "b.png").write_bytes(b"")
    write(train / "masks" / "b.png", indices(7))  # beside an image that does not decode: both are told
    write(val / "images" / "w.png", picture(2))
    write(val / "masks" / "w.png", mask(0, (24, 24)))  # two problems of one file
    write(val / "images" / "x.bmp", picture(50))
    write(val / "masks" / "x.png", indices())
    assert [re.sub(r"[:;(].*", "", line.replace(f"{tmp_path}/", "")) for line in problems(folders, (*THREE, "light"))] == [
        "train/images/alone.png",
        "train/images/b.png",
        "train/masks/b.png",
        "val/masks/w.png",
        "val/masks/w.png",
        "train/masks",
        "val/images/x.bmp",
    ]


def test_a_long_list_is_cut_and_says_how_many_more_there_are(tmp_path: Path) -> None:
    folders = splits(tmp_path)
    for number in range(50):
        write(folders[0] / "images" / f"n{number:02}.png", picture(0, (4, 4)))
    with pytest.raises(UsageError) as caught:
        check_splits(folders, BINARY, allow_empty=False)
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[0], lines[-1]) == (42, "the training data has 50 problems:", "  ... and 10 more")


# --- the fingerprint ----------------------------------------------------------------------------------------------------------------


def fingerprint(folders: list[Path]) -> str:
    return check_splits(folders, BINARY, allow_empty=False)


def test_a_folder_that_is_moved_or_written_anew_keeps_its_fingerprint(tmp_path: Path) -> None:
    before = fingerprint(splits(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    assert fingerprint([tmp_path / "there" / "train", tmp_path / "there" / "val"]) == before
    assert fingerprint(splits(tmp_path / "anew")) == before


def test_notes_beside_the_images_do_not_matter(tmp_path: Path) -> None:
    before = fingerprint(splits(tmp_path))
    (tmp_path / "train" / "images" / "notes.txt").write_text("not an image", encoding="utf-8")
    assert fingerprint([tmp_path / "train", tmp_path / "val"]) == before


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("folder", ["images", "masks"])
def test_one_changed_pixel_changes_the_fingerprint(tmp_path: Path, split: str, folder: str) -> None:
    folders = splits(tmp_path)
    before = fingerprint(folders)
    path = sorted((tmp_path / split / folder).iterdir())[0]
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    pixels[0, 0] = 255 - pixels[0, 0]
    write(path, pixels)
    assert fingerprint(folders) != before


def test_an_image_more_or_in_the_other_split_changes_the_fingerprint(tmp_path: Path) -> None:
    folders = splits(tmp_path)
    seen = {fingerprint(folders)}
    for name in ("images/c.png", "masks/c.png"):
        write(folders[0] / name, picture(77) if "images" in name else mask())
    seen.add(fingerprint(folders))
    for name in ("images/c.png", "masks/c.png"):
        (folders[0] / name).rename(folders[1] / name)
    seen.add(fingerprint(folders))
    assert len(seen) == 3


def test_masks_that_change_places_change_the_fingerprint(tmp_path: Path) -> None:
    folders = splits(tmp_path)
    wide = mask()
    wide[20:] = 255
    write(folders[0] / "masks" / "a.png", wide)
    before = fingerprint(folders)
    write(folders[0] / "masks" / "a.png", mask())
    write(folders[0] / "masks" / "b.png", wide)
    assert fingerprint(folders) != before
