from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data sets: dsb2018, drive, kvasir-seg."""
    folder = Path(os.environ.get("QTSEG_DATA") or Path(__file__).parents[3] / "shared" / "data")
    if not (folder / "drive" / "images").is_dir():
        pytest.skip(f"no data sets in {folder}; set QTSEG_DATA to the folder that holds drive, dsb2018 and kvasir-seg")
    return folder
