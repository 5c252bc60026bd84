"""Every raw layout in miniature, pixel by pixel."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.data import labelled_images, read_image, read_mask
from qtseg_edge.prepare import DATASETS, prepare
from tests.prepare import raw


def nobody(done: int, total: int | None = None, note: str = "") -> None:
    """Watches the progress."""


def prepared(name: str, folder: Path, fold: int | None = None, classes: int | None = None) -> dict[str, Any]:
    """The manifest as written; the data go to `out` beside the raw folder."""
    prepare(name, folder, folder.parent / "out", fold, classes, nobody)
    return json.loads((folder.parent / "out" / "manifest.json").read_text("utf-8"))  # type: ignore[no-any-return]


def names(split: Path) -> list[str]:
    return [pair.image.name for pair in labelled_images(split)]


def masks(split: Path, classes: int = 2) -> dict[str, raw.Uint8]:
    return {pair.image.stem: read_mask(pair.mask, classes) for pair in labelled_images(split)}


def images(split: Path) -> dict[str, raw.Uint8]:
    return {pair.image.stem: read_image(pair.image) for pair in labelled_images(split)}


def assert_alike(found: NDArray[np.generic], drawn: NDArray[np.generic]) -> None:
    """Equal but for corners: JPEG stores colour at half size, so there three black neighbours outweigh one of colour."""
    assert np.count_nonzero(found != drawn) <= 8, np.argwhere(found != drawn)


def test_every_data_set_tells_where_it_is_from_and_on_which_terms() -> None:
    assert list(DATASETS) == ["isic2016", "busi", "bkai-igh", "dsb2018", "fives", "kvasir-seg", "cvc-clinicdb", "drive"]
    for dataset in DATASETS.values():
        assert dataset.source.startswith("https://") and dataset.terms
        assert re.search(r"20\d\d", dataset.citation)


def test_isic_keeps_its_test_and_validates_on_a_fold_of_its_training_images(tmp_path: Path) -> None:
    manifest = prepared("isic2016", raw.isic2016(tmp_path / "raw"), fold=1)
    out = tmp_path / "out"
    assert names(out / "val") == ["ISIC_0000002.jpg", "ISIC_0000003.jpg"]
    assert names(out / "train") == [f"ISIC_{number:07}.jpg" for number in (0, 1, 4, 5, 6, 7, 8, 9)]
    assert names(out / "test") == [f"ISIC_{number:07}.jpg" for number in (100, 101, 102)]
    for split in ("train", "val", "test"):
        for stem, mask in masks(out / split).items():
            np.testing.assert_array_equal(mask, raw.blob(int(stem[5:])))
    original = tmp_path / "raw" / "train" / "inputs" / "ISIC_0000002.jpg"
    assert (out / "val" / "images" / "ISIC_0000002.jpg").read_bytes() == original.read_bytes()
    assert manifest["split_rule"].startswith("test as published; of the others fold 1 of 5")


def test_isic_in_the_folders_of_its_archives(tmp_path: Path) -> None:
    folder = raw.isic2016(tmp_path / "short")
    for part, name in (("train", "Training"), ("test", "Test")):
        target = tmp_path / "raw" / f"ISBI2016_ISIC_Part1_{name}_Data"
        target.parent.mkdir(exist_ok=True)
        (folder / part / "inputs").rename(target)
        truth = (folder / part / "targets").rename(tmp_path / "raw" / f"ISBI2016_ISIC_Part1_{name}_GroundTruth")
        for mask in list(truth.iterdir()):
            mask.rename(mask.with_name(f"{mask.stem}_Segmentation.png"))
    prepared("isic2016", tmp_path / "raw")
    assert [len(names(tmp_path / "out" / split)) for split in ("train", "val", "test")] == [8, 2, 3]


def test_busi_merges_its_masks_and_cuts_benign_and_malignant_each_for_itself(tmp_path: Path) -> None:
    manifest = prepared("busi", raw.busi(tmp_path / "raw" / "Dataset_BUSI_with_GT").parent)
    val, train = masks(tmp_path / "out" / "val"), masks(tmp_path / "out" / "train")
    assert list(val) == ["benign (1)", "benign (10)", "malignant (1)"]  # of 11 and 6, sorted as text
    assert len(train) == 14 and not any("normal" in stem for stem in train)
    for stem, mask in (val | train).items():
        np.testing.assert_array_equal(mask, raw.busi_mask(stem), stem)
    two = next(file for file in manifest["files"] if file["image"] == "train/images/benign (3).png")
    assert two["source_masks"] == ["Dataset_BUSI_with_GT/benign/benign (3)_mask.png", "Dataset_BUSI_with_GT/benign/benign (3)_mask_1.png"]


@pytest.mark.parametrize("doubled", [True, False])
def test_bkai_tells_two_kinds_of_polyp_from_jpeg_colours(tmp_path: Path, doubled: bool) -> None:
    folder = raw.bkai_igh(tmp_path / "raw")
    if not doubled:
        for name in ("train", "train_gt"):
            (folder / name / name).rename(folder / "inner")
            (folder / name).rmdir()
            (folder / "inner").rename(folder / name)
    manifest = prepared("bkai-igh", folder, classes=3)
    found = masks(tmp_path / "out" / "train", 3) | masks(tmp_path / "out" / "val", 3)
    assert len(found) == 10
    for stem, indices in found.items():
        assert_alike(indices, raw.two_polyps(int(stem, 16)))
    assert manifest["classes"] == ["background", "neoplastic", "non-neoplastic"]
    assert manifest["mask_values"] == [0, 1, 2]


def test_bkai_with_two_classes_calls_both_polyp(tmp_path: Path) -> None:
    manifest = prepared("bkai-igh", raw.bkai_igh(tmp_path / "raw"))
    found = masks(tmp_path / "out" / "val")
    assert list(found) == [f"{0:032x}", f"{1:032x}"]
    for stem, mask in found.items():
        assert_alike(mask, raw.two_polyps(int(stem, 16)) > 0)
    assert (manifest["classes"], manifest["mask_values"]) == (["background", "polyp"], [0, 255])


def test_dsb2018_merges_the_nuclei_and_drops_the_opacity(tmp_path: Path) -> None:
    manifest = prepared("dsb2018", raw.dsb2018(tmp_path / "raw"), fold=4)
    number_of = {raw.dsb_id(number): number for number in range(10)}
    assert names(tmp_path / "out" / "val") == [f"{name}.png" for name in sorted(number_of)[8:]]
    for split in ("train", "val"):
        for stem, image in images(tmp_path / "out" / split).items():
            np.testing.assert_array_equal(image, raw.picture(number_of[stem]))
        for stem, mask in masks(tmp_path / "out" / split).items():
            nucleus = raw.blob(number_of[stem])
            np.testing.assert_array_equal(mask, nucleus | np.fliplr(nucleus))
    assert len(manifest["files"][0]["source_masks"]) == 2


def test_dsb2018_with_merged_masks_gives_the_same_split(tmp_path: Path) -> None:
    for number in range(10):
        raw.save(tmp_path / "raw" / "images" / f"{raw.dsb_id(number)}.png", raw.picture(number))
        raw.save(tmp_path / "raw" / "masks" / f"{raw.dsb_id(number)}.png", raw.blob(number))  # 0 and 1, not 255
    prepared("dsb2018", tmp_path / "raw", fold=4)
    assert names(tmp_path / "out" / "val") == [f"{name}.png" for name in sorted(map(raw.dsb_id, range(10)))[8:]]
    np.testing.assert_array_equal(masks(tmp_path / "out" / "train")[raw.dsb_id(0)], raw.blob(0))


def test_fives_validates_on_every_diagnosis_and_keeps_equal_names_in_test_apart(tmp_path: Path) -> None:
    prepared("fives", raw.fives(tmp_path / "raw"))
    out = tmp_path / "out"
    assert names(out / "val") == ["10_D.png", "11_G.png", "16_N.png", "1_A.png"]  # the first of each letter, sorted as text
    assert len(names(out / "train")) == 16
    assert names(out / "test") == ["1_A.png", "2_D.png", "3_G.png", "4_N.png"]
    np.testing.assert_array_equal(images(out / "test")["1_A"], raw.picture(501))
    np.testing.assert_array_equal(masks(out / "test")["1_A"], raw.blob(501))
    np.testing.assert_array_equal(masks(out / "val")["1_A"], raw.blob(1))


def test_kvasir_without_lists_is_cut_into_folds(tmp_path: Path) -> None:
    manifest = prepared("kvasir-seg", raw.kvasir_seg(tmp_path / "raw"), fold=2)
    assert names(tmp_path / "out" / "val") == ["cju4.jpg", "cju5.jpg"]
    assert manifest["fold"] == 2
    for split in ("train", "val"):
        for stem, mask in masks(tmp_path / "out" / split).items():
            np.testing.assert_array_equal(mask, raw.blob(int(stem[3:])))


def test_kvasir_with_lists_follows_them(tmp_path: Path) -> None:
    folder = raw.kvasir_seg(tmp_path / "raw") / "Kvasir-SEG"
    (folder / "train.txt").write_text("\n".join(f"cju{number}" for number in range(8)) + "\n")
    (folder / "val.txt").write_text("images/cju8.jpg\ncju9\n\ncju77\n")
    done = prepare("kvasir-seg", tmp_path / "raw", tmp_path / "out", None, None, nobody)
    assert names(tmp_path / "out" / "val") == ["cju8.jpg", "cju9.jpg"]
    assert len(names(tmp_path / "out" / "train")) == 8
    assert done.manifest["fold"] is None
    assert "1 of the 11 listed images are not there, first cju77" in done.notices


def test_kvasir_already_split_stays_so(tmp_path: Path) -> None:
    for split, numbers in (("train", range(3)), ("val", range(3, 5))):
        for number in numbers:
            raw.save(tmp_path / "raw" / split / "images" / f"{split}_{number}.jpg", raw.picture(number))
            raw.save(tmp_path / "raw" / split / "masks" / f"{split}_{number}.jpg", raw.white(raw.blob(number)))
    manifest = prepared("kvasir-seg", tmp_path / "raw")
    assert names(tmp_path / "out" / "val") == ["val_3.jpg", "val_4.jpg"]
    assert (manifest["fold"], manifest["split_rule"]) == (None, "train/ and val/ as they came")


def test_cvc_gets_its_colours_back_and_keeps_sequences_together(tmp_path: Path) -> None:
    manifest = prepared("cvc-clinicdb", raw.cvc_clinicdb(tmp_path / "raw"))
    out = tmp_path / "out"
    assert names(out / "val") == ["1.png", "25.png"]  # both of sequence 1, one of the seven
    assert names(out / "train") == ["104.png", "26.png", "51.png", "60.png", "68.png", "79.png"]
    for split in ("train", "val"):
        for stem, image in images(out / split).items():
            np.testing.assert_array_equal(image, raw.picture(int(stem)))
        for stem, mask in masks(out / split).items():
            np.testing.assert_array_equal(mask, raw.blob(int(stem)))
    assert "whole video sequences" in manifest["split_rule"]


def test_cvc_png_is_preferred_where_both_are(tmp_path: Path) -> None:
    folder = raw.cvc_clinicdb(tmp_path / "raw" / "TIF").parent
    for number in (1, 26, 51, 68, 79):
        raw.save(folder / "PNG" / "Original" / f"{number}.png", raw.picture(number))
        raw.save(folder / "PNG" / "Ground Truth" / f"{number}.png", raw.white(raw.blob(number)))
    (folder / "metadata.csv").write_text("frame_id,sequence_id\n")
    manifest = prepared("cvc-clinicdb", folder)
    assert {file["source"].split("/")[0] for file in manifest["files"]} == {"PNG"}
    assert names(tmp_path / "out" / "val") == ["1.png"]


def test_drive_reads_tiff_and_gif_and_leaves_the_field_of_view_alone(tmp_path: Path) -> None:
    prepared("drive", raw.drive(tmp_path / "raw"))
    out = tmp_path / "out"
    assert names(out / "train") == ["22_training.png", "23_training.png", "24_training.png", "25_training.png"]
    assert names(out / "val") == ["21_training.png"]
    assert names(out / "test") == ["01_test.png", "02_test.png"]
    for split in ("train", "val", "test"):
        for stem, image in images(out / split).items():
            np.testing.assert_array_equal(image, raw.picture(int(stem[:2])))
        for stem, mask in masks(out / split).items():
            np.testing.assert_array_equal(mask, raw.blob(int(stem[:2])))


def test_drive_without_labels_of_its_test_says_so_and_writes_the_rest(tmp_path: Path) -> None:
    folder = raw.drive(tmp_path / "raw")
    for mask in (folder / "test" / "1st_manual").iterdir():
        mask.unlink()
    done = prepare("drive", folder, tmp_path / "out", None, None, nobody)
    assert "test: images without a single mask; this split is left out (some downloads keep its masks back)" in done.notices
    assert list(done.manifest["splits"]) == ["train", "val"]
    assert not (tmp_path / "out" / "test").exists()


def some_of(source: Path, target: Path, parts: tuple[str, ...], chosen: list[str]) -> Path:
    for part in parts:
        (target / part).mkdir(parents=True)
        for name in chosen:
            shutil.copy(source / part / name, target / part)
    return target


def test_real_drive(shared_data: Path, tmp_path: Path) -> None:
    chosen = [f"{number}_training.png" for number in range(21, 27)] + ["01_test.png"]
    folder = some_of(shared_data / "drive", tmp_path / "raw", ("images", "masks", "fov"), chosen)
    manifest = prepared("drive", folder)
    assert [names(tmp_path / "out" / split) for split in ("train", "val", "test")] == [chosen[1:6], chosen[:1], chosen[6:]]
    assert 0.07 < manifest["splits"]["train"]["class_shares"][1] < 0.1  # vessels
    original = shared_data / "drive" / "images" / "01_test.png"
    assert (tmp_path / "out" / "test" / "images" / "01_test.png").read_bytes() == original.read_bytes()


def test_real_dsb2018(shared_data: Path, tmp_path: Path) -> None:
    chosen = sorted(path.name for path in (shared_data / "dsb2018" / "images").iterdir())[:10]
    manifest = prepared("dsb2018", some_of(shared_data / "dsb2018", tmp_path / "raw", ("images", "masks"), chosen))
    assert names(tmp_path / "out" / "val") == chosen[:2]
    assert manifest["notices"] == ["all: 10 images here, 670 published"]
