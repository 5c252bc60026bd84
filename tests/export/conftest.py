from __future__ import annotations

from pathlib import Path

import pytest

from qtseg_edge.export import example_frames, export_checkpoint
from tests.small_models import made_once


@pytest.fixture(scope="session")
def exported(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network as an ONNX file for one image."""
    return made_once(tmp_path_factory, "one-image.onnx", lambda path: export_checkpoint(small_checkpoint, path, example_frames()))
