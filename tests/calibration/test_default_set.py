"""The calibration set of the built-in polyp model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qtseg_edge.calibration import default_calibration_set, load_calibration_set, require_disjoint
from qtseg_edge.calibration.look import look_at
from qtseg_edge.data import read_image


@pytest.fixture(scope="module")
def folder() -> Path:
    found = default_calibration_set()
    assert found is not None
    return found


def test_it_is_whole_small_and_credited(folder: Path) -> None:
    loaded = load_calibration_set(folder)
    assert 32 <= len(loaded.images) <= 64
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 3_000_000
    credit = json.loads((folder / "manifest.json").read_text("utf-8"))["credit"]
    assert "Kvasir-SEG, Jha et al. 2020" in credit and "CC BY 4.0" in credit


def test_no_image_has_a_fault_or_writing_that_can_be_detected(folder: Path) -> None:
    looks = {image.path.name: look_at(read_image(image.path)) for image in load_calibration_set(folder).images}
    assert [name for name, look in looks.items() if look.fault or look.burnt_in] == []


def test_it_shares_nothing_with_the_validation_images_and_is_part_of_the_training_images(folder: Path, kvasir: Path) -> None:
    loaded = load_calibration_set(folder)
    require_disjoint(loaded, kvasir / "val")
    for image in loaded.images:
        assert image.path.read_bytes() == (kvasir / "train" / "images" / image.source).read_bytes()


@pytest.mark.slow
def test_most_frames_with_writing_are_detected(kvasir: Path) -> None:
    """91 of the 100 validation frames are flagged; all but six of them show text (samples/README.md)."""
    flagged = [look_at(read_image(path)).burnt_in for path in sorted((kvasir / "val" / "images").iterdir())]
    assert 85 <= sum(flagged) <= 95
