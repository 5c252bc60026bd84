"""What holds for every data set: checks, the manifest, and that OUT is whole or absent."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.prepare import Prepared, prepare
from tests.disks import small_disk
from tests.prepare import raw


def run(name: str, folder: Path, fold: int | None = None, classes: int | None = None) -> Prepared:
    return prepare(name, folder, folder.parent / "out", fold, classes, lambda *_: None)


def nothing_but_raw(folder: Path) -> bool:
    return [path.name for path in folder.parent.iterdir()] == [folder.name]


def damage_all(folder: Path) -> None:
    """One flaw of every kind in a DSB2018 of merged masks, numbers 0 to 5."""
    images, masks = folder / "images", folder / "masks"
    (images / f"{raw.dsb_id(0)}.png").write_bytes(b"not an image")
    (masks / f"{raw.dsb_id(1)}.png").unlink()
    raw.save(masks / "orphan.png", raw.blob(0))
    raw.save(masks / f"{raw.dsb_id(2)}.png", raw.blob(2, (24, 30)))
    raw.save(masks / f"{raw.dsb_id(3)}.png", np.zeros(raw.SIZE_HW, np.uint8))
    grey = raw.white(raw.blob(4))
    grey[:, :9] = 128
    raw.save(masks / f"{raw.dsb_id(4)}.png", grey)
    (masks / f"{raw.dsb_id(5)}.png").write_bytes(b"")


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    for number in range(12):
        raw.save(folder / "images" / f"{raw.dsb_id(number)}.png", raw.picture(number))
        raw.save(folder / "masks" / f"{raw.dsb_id(number)}.png", raw.white(raw.blob(number)))
    return folder


def test_every_problem_is_told_at_once_and_nothing_is_written(merged: Path) -> None:
    damage_all(merged)
    with pytest.raises(QtsegError) as caught:
        run("dsb2018", merged)
    text = str(caught.value)
    for expected in (
        f"{merged}: 7 problems, nothing was written:",
        f"images/{raw.dsb_id(0)}.png: wanted an image, but it does not decode (12 bytes)",
        f"images/{raw.dsb_id(1)}.png: no mask",
        "masks/orphan.png: no image",
        f"masks/{raw.dsb_id(2)}.png: mask of 30x24 for an image of 36x24",
        f"masks/{raw.dsb_id(3)}.png: empty; every image of this data set shows something",
        f"masks/{raw.dsb_id(4)}.png: 216 pixels (25.0 %) are of no class (background, nucleus)",
        f"masks/{raw.dsb_id(5)}.png: wanted an image, but it does not decode (0 bytes)",
    ):
        assert expected in text
    assert nothing_but_raw(merged)


def test_a_long_list_of_problems_is_cut(merged: Path) -> None:
    for number in range(100):
        raw.save(merged / "masks" / f"orphan {number}.png", raw.blob(0))
    with pytest.raises(QtsegError, match=r"100 problems[\s\S]*\.\.\. and 60 more$"):
        run("dsb2018", merged)


def test_foreign_colours_are_a_problem(tmp_path: Path) -> None:
    folder = raw.bkai_igh(tmp_path / "raw")
    pixels = raw.coloured(raw.two_polyps(0))
    pixels[:20, :60] = (0, 0, 255)
    raw.save(folder / "train_gt" / "train_gt" / f"{0:032x}.jpeg", pixels)
    with pytest.raises(QtsegError, match=r"\d+ pixels \(1\d\.\d %\) are of no class \(background, neoplastic, non-neoplastic\)"):
        run("bkai-igh", folder, classes=3)


def test_a_name_used_twice_is_a_problem(merged: Path) -> None:
    raw.save(merged / "images" / f"{raw.dsb_id(0)}.jpg", raw.picture(90))
    with pytest.raises(QtsegError, match=r"has the same name as images/"):
        run("dsb2018", merged)


def test_one_name_for_two_outputs_is_a_problem(tmp_path: Path) -> None:
    folder = raw.busi(tmp_path / "raw")
    for group in ("benign", "malignant"):
        raw.save(folder / group / "zone.png", raw.picture(70 + len(group)))
        raw.save(folder / group / "zone_mask.png", raw.white(raw.blob(0)))
    with pytest.raises(QtsegError, match="the name zone occurs twice in train"):
        run("busi", folder)


def test_a_picture_of_an_earlier_split_is_left_out_of_training(merged: Path) -> None:
    """As published, BUSI has such a pair; trained on, it would be a leak."""
    ordered = sorted(map(raw.dsb_id, range(12)))  # val: the first two
    shutil.copy(merged / "images" / f"{ordered[0]}.png", merged / "images" / f"{ordered[7]}.png")
    done = run("dsb2018", merged)
    line = f"images/{ordered[7]}.png: left out of train, the same picture as images/{ordered[0]}.png in val"
    assert line in done.notices and line in done.manifest["notices"]
    assert not (done.out / "train" / "images" / f"{ordered[7]}.png").exists()
    assert [done.manifest["splits"][split]["images"] for split in ("train", "val")] == [9, 2]


def test_a_picture_twice_in_one_split_is_a_notice(merged: Path) -> None:
    ordered = sorted(map(raw.dsb_id, range(12)))
    shutil.copy(merged / "images" / f"{ordered[7]}.png", merged / "images" / f"{ordered[9]}.png")
    done = run("dsb2018", merged)
    assert f"train: images/{ordered[9]}.png is the same picture as images/{ordered[7]}.png" in done.notices
    assert done.manifest["splits"]["train"]["images"] == 10


def test_another_number_than_published_and_smoothed_edges_are_notices(merged: Path) -> None:
    mask = raw.white(raw.blob(0))
    mask[0, 0] = 120
    raw.save(merged / "masks" / f"{raw.dsb_id(0)}.png", mask)
    assert run("dsb2018", merged).notices == [
        "all: 12 images here, 670 published",
        "pixels between two classes, gone to the nearer one: 1, in 1 masks",
    ]


def test_an_empty_mask_of_bkai_is_a_notice(tmp_path: Path) -> None:
    folder = raw.bkai_igh(tmp_path / "raw")
    raw.save(folder / "train_gt" / "train_gt" / f"{0:032x}.jpeg", np.zeros((64, 96, 3), np.uint8))
    assert "empty masks: 1" in run("bkai-igh", folder).notices


def test_the_manifest_tells_every_file(tmp_path: Path) -> None:
    done = run("busi", raw.busi(tmp_path / "raw"), fold=1)
    manifest = json.loads((done.out / "manifest.json").read_text("utf-8"))
    assert manifest == json.loads(json.dumps(done.manifest))
    assert (manifest["data_set"], manifest["fold"], manifest["classes"]) == ("busi", 1, ["background", "lesion"])
    assert "CC BY 4.0" in manifest["terms"] and "Al-Dhabyani" in manifest["citation"] and manifest["qtseg_edge"]
    on_disk = {path.relative_to(done.out).as_posix() for path in done.out.rglob("*.png")}
    assert {file[part] for file in manifest["files"] for part in ("image", "mask")} == on_disk
    for file in manifest["files"]:
        for part in ("image", "mask"):
            assert hashlib.sha256((done.out / file[part]).read_bytes()).hexdigest() == file[f"{part}_sha256"]
        assert (tmp_path / "raw" / file["source"]).is_file() and all((tmp_path / "raw" / mask).is_file() for mask in file["source_masks"])
        foreground = raw.busi_mask(Path(file["image"]).stem).mean()
        assert file["class_shares"] == pytest.approx([1 - foreground, foreground], abs=1e-6)
        assert (file["size_hw"], file["doubtful_pixels"]) == ([24, 36], 0)
    shares = [file["class_shares"][1] for file in manifest["files"] if file["split"] == "val"]
    assert manifest["splits"]["val"] == {
        "images": 3,
        "class_shares": pytest.approx([1 - np.mean(shares), np.mean(shares)], abs=2e-6),
        "sizes": {"36x24": 3},
    }


def test_the_same_download_gives_the_same_files(tmp_path: Path) -> None:
    folder = raw.busi(tmp_path / "raw")
    first = run("busi", folder)
    first.out.rename(tmp_path / "first")
    run("busi", folder)
    for path in (tmp_path / "first").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "first")).read_bytes()


def test_a_folder_that_is_not_empty_is_refused_and_kept(merged: Path) -> None:
    out = run("dsb2018", merged).out
    before = sorted(path.name for path in out.rglob("*"))
    with pytest.raises(UsageError, match=r"out: not empty; name a new folder, or remove this one with: rm -r .*out"):
        run("dsb2018", merged)
    assert sorted(path.name for path in out.rglob("*")) == before


def test_an_empty_folder_is_taken_and_a_file_or_a_missing_parent_is_not(merged: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert run("dsb2018", merged).manifest["splits"]["val"]["images"] == 2
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        prepare("dsb2018", merged, tmp_path / "file", None, None, lambda *_: None)
    with pytest.raises(UsageError, match=r"a: no such folder; create it with: mkdir -p .*a$"):
        prepare("dsb2018", merged, tmp_path / "a" / "out", None, None, lambda *_: None)


@pytest.fixture
def with_a_big_image(merged: Path) -> Path:
    noise = np.random.RandomState(0).randint(0, 256, (96, 96, 3), np.uint8)
    raw.save(merged / "images" / f"{raw.dsb_id(0)}.png", noise)
    raw.save(merged / "masks" / f"{raw.dsb_id(0)}.png", raw.white(raw.blob(0, (96, 96))))
    return merged


def test_a_full_disk_leaves_nothing_behind(with_a_big_image: Path) -> None:
    with small_disk(), pytest.raises(OSError, match="File too large"):
        run("dsb2018", with_a_big_image)
    assert nothing_but_raw(with_a_big_image)


def interrupt(done: int, total: int | None = None, note: str = "") -> None:
    if done == 5:
        raise KeyboardInterrupt


def test_an_interrupt_leaves_nothing_behind(merged: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepare("dsb2018", merged, merged.parent / "out", None, None, interrupt)
    assert nothing_but_raw(merged)


def test_progress_counts_every_image(merged: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    prepare("dsb2018", merged, merged.parent / "out", None, None, lambda done, total=None, note="": seen.append((done, total)))
    assert seen[0] == (0, 12) and seen[-1] == (12, 12)


@pytest.mark.parametrize("build", [raw.isic2016, raw.busi, raw.dsb2018, raw.fives])
def test_what_does_not_fit_is_told_with_the_layouts(tmp_path: Path, build: Callable[[Path], Path]) -> None:
    with pytest.raises(UsageError, match=r"wanted one of these layouts, got .*\n  PNG/\{Original,Ground Truth\}/N\.png\n  TIF/"):
        run("cvc-clinicdb", build(tmp_path / "raw"))
    assert nothing_but_raw(tmp_path / "raw")


def test_raw_must_exist_and_hold_something(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder; unpack the download"):
        run("busi", tmp_path / "raw")
    (tmp_path / "raw").mkdir()
    with pytest.raises(UsageError, match="wanted one of these layouts, got nothing"):
        run("busi", tmp_path / "raw")


def test_what_archives_add_is_ignored(merged: Path) -> None:
    (merged / "__MACOSX" / "images").mkdir(parents=True)
    for path in (merged / "images" / "._a.png", merged / "images" / ".DS_Store", merged / "__MACOSX" / "images" / "._a.png"):
        path.write_bytes(b"x")
    assert run("dsb2018", merged).manifest["splits"]["train"]["images"] == 10


def test_a_split_without_any_image_is_a_problem(tmp_path: Path) -> None:
    folder = raw.kvasir_seg(tmp_path / "raw") / "Kvasir-SEG"
    (folder / "train.txt").write_text("\n".join(f"cju{number}" for number in range(10)))
    (folder / "val.txt").write_text("")
    with pytest.raises(QtsegError, match="val: no image for it"):
        run("kvasir-seg", tmp_path / "raw")


@pytest.mark.parametrize(("name", "classes", "wanted"), [("isic2016", 3, "2"), ("bkai-igh", 4, "2 or 3")])
def test_another_number_of_classes_is_refused(tmp_path: Path, name: str, classes: int, wanted: str) -> None:
    with pytest.raises(UsageError, match=f"--classes: wanted {wanted} for {name}, got {classes}"):
        run(name, tmp_path / "raw", classes=classes)
