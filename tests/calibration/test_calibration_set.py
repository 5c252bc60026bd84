from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtseg_edge.calibration import load_calibration_set
from qtseg_edge.calibration.calibration_set import _listed_images, parsed_manifest
from qtseg_edge.data import pixels_sha256, read_image
from qtseg_edge.errors import UsageError
from qtseg_edge.runtime import FakeBackend, Segmenter
from qtseg_edge.spec import ModelCard, ModelSpec
from tests.calibration.pictures import scene, write, write_scenes


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of a whole set, to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "set"))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text("utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def put(folder: Path, place: int, rgb: np.ndarray) -> None:
    """An image in the place of another, with a manifest that says so."""
    write(folder / f"{place:04}.png", rgb)
    digest = hashlib.sha256((folder / f"{place:04}.png").read_bytes()).hexdigest()
    edit(folder, lambda document: document["images"][place].update(sha256=digest, pixels_sha256=pixels_sha256(rgb)))


def refused(folder: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_calibration_set(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- a whole set --------------------------------------------------------------------------------------------------------------------


def test_a_set_is_what_its_manifest_says(made: Path) -> None:
    loaded = load_calibration_set(made)
    assert (len(loaded.images), len(loaded.calibrating), len(loaded.held_out)) == (33, 25, 8)
    assert loaded.manifest_sha256 == hashlib.sha256((made / "manifest.json").read_bytes()).hexdigest()
    assert set(loaded.calibrating).isdisjoint(loaded.held_out)
    image = loaded.images[3]
    assert (image.path, image.source, image.frame, image.held_out) == (made / "0003.png", "scene003.png", 0, True)


@pytest.mark.parametrize("size_hw", [(64, 64), (64, 96)])
def test_frames_are_prepared_as_the_runtime_prepares_them(made: Path, card: ModelCard, size_hw: tuple[int, int]) -> None:
    loaded, spec = load_calibration_set(made), ModelSpec(card, size_hw)
    segmenter = Segmenter(FakeBackend(spec))
    for image, frame in zip(loaded.held_out, loaded.frames(spec, loaded.held_out), strict=True):
        assert frame.dtype == np.uint8
        assert np.array_equal(frame, segmenter.prepare(read_image(image.path)).image)


# --- refusals -----------------------------------------------------------------------------------------------------------------------


def test_a_plain_folder_of_images_is_refused_with_the_command(tmp_path: Path) -> None:
    plain = write_scenes(tmp_path / "frames", range(3))
    assert refused(plain).endswith(f"has no manifest.json; make one with: qtseg-edge calibrate {plain} -o {plain}-set")
    assert refused(tmp_path / "none").startswith(f"{tmp_path / 'none'}: no such folder; make a calibration set with: qtseg-edge calibrate")


def test_fewer_than_32_images_are_refused(folder: Path) -> None:
    edit(folder, lambda document: document["images"].__delitem__(slice(31, None)))
    assert "wanted 32 or more images, got 31" in refused(folder)


def test_a_missing_a_changed_and_an_unlisted_file_are_named(folder: Path) -> None:
    spare = (folder / "0007.png").read_bytes()
    (folder / "0007.png").unlink()
    assert ": 1 (0007.png) of 33 images missing; make a set with: " in refused(folder)
    write(folder / "0007.png", scene(700))
    assert ": 1 (0007.png) of 33 images not what manifest.json says; " in refused(folder)
    (folder / "0007.png").write_bytes(spare)
    write(folder / "another.jpg", scene(701))
    assert ": 1 (another.jpg) not in its manifest.json; " in refused(folder)


def test_many_changed_files_are_counted(folder: Path) -> None:
    for number in range(5):
        (folder / f"{number:04}.png").write_bytes(b"other")
    assert ": 5 (0000.png, 0001.png, 0002.png...) of 33 images not what manifest.json says" in refused(folder)


def test_pixels_are_compared_with_the_manifest(folder: Path) -> None:
    edit(folder, lambda document: document["images"][5].update(pixels_sha256="0" * 64))
    assert "1 (0005.png) of 33 images not what manifest.json says" in refused(folder)


@pytest.mark.parametrize(
    ("rgb", "reason"),
    [
        (np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8), "noise"),
        (np.zeros((96, 128, 3), np.uint8), "flat"),
        (np.full((96, 128, 3), 200, np.uint8), "flat"),
        (scene(4), "the same as 0004.png"),
    ],
)
def test_noise_blank_images_and_repetitions_are_refused(folder: Path, rgb: np.ndarray, reason: str) -> None:
    put(folder, 9, rgb)
    assert f": 1 (0009.png ({reason})) of 33 images no use for calibration; " in refused(folder)


def test_a_file_that_does_not_decode_is_refused(folder: Path) -> None:
    (folder / "0002.png").write_bytes(b"text")
    digest = hashlib.sha256(b"text").hexdigest()
    edit(folder, lambda document: document["images"][2].update(sha256=digest))
    assert "0002.png: wanted an image, but it does not decode (4 bytes); make a set with:" in refused(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(version=2),
        lambda document: document.update(kind="prepared"),
        lambda document: document.pop("images"),
        lambda document: document["images"][0].pop("sha256"),
        lambda document: document["images"][0].update(file="../0000.png"),
        lambda document: document["images"][0].update(file="manifest.json"),
        lambda document: document["images"][1].update(file="0000.png"),
        lambda document: document["images"][3].update(held_out=False),
        lambda document: document["images"][0].update(held_out=True),
        lambda document: document["images"][0].update(frame="first"),
    ],
)
def test_a_manifest_that_was_changed_by_hand_is_refused(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    edit(folder, change)
    assert "manifest.json: not the manifest of a calibration set (" in refused(folder)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["kind", "version", "images"]), inner),
)


@settings(max_examples=50)
@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_pass_for_a_manifest_or_crash_its_reader(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, RecursionError)):
        parsed_manifest(data)


@settings(max_examples=50)
@given(
    place=st.integers(0, 32), field=st.sampled_from(["file", "sha256", "pixels_sha256", "source", "frame", "held_out"]), value=json_values
)
def test_any_value_in_an_entry_loads_or_is_refused_in_one_line(made: Path, place: int, field: str, value: Any) -> None:
    document = json.loads((made / "manifest.json").read_text("utf-8"))
    document["images"][place][field] = value
    try:
        assert len(_listed_images(made, json.dumps(document).encode())) == 33
    except UsageError as error:
        assert "not the manifest of a calibration set" in str(error)
