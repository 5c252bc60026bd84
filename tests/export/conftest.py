from __future__ import annotations

from pathlib import Path

import pytest

from qtseg_edge.export import ExportReport, example_frames, export_checkpoint
from tests.small_models import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small.safetensors")


@pytest.fixture(scope="session")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return export_checkpoint(checkpoint, tmp_path_factory.mktemp("onnx") / "small.onnx", example_frames())


@pytest.fixture(scope="session")
def dynamic(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """The same network, for any batch."""
    return export_checkpoint(checkpoint, tmp_path_factory.mktemp("onnx") / "dynamic.onnx", example_frames(), batch=None)
