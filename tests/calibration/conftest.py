from __future__ import annotations

import os
from pathlib import Path

import pytest

from qtseg_edge.calibration.make_set import make_calibration_set
from tests.calibration.pictures import write_scenes


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 33 made pictures, PNG. Never written to; copy it."""
    folder = tmp_path_factory.mktemp("calibration")
    write_scenes(folder / "frames", range(33))
    return make_calibration_set([str(folder / "frames")], 40, folder / "set", lambda done, total=None, note="": None).folder


@pytest.fixture(scope="session")
def kvasir() -> Path:
    folder = Path(os.environ.get("QTSEG_DATA") or Path(__file__).parents[3] / "shared" / "data") / "kvasir-seg"
    if not (folder / "val" / "images").is_dir():
        pytest.skip(f"no Kvasir-SEG in {folder}; set QTSEG_DATA to the folder that holds kvasir-seg")
    return folder
