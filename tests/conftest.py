"""Fixtures shared by all tests. Nothing here imports torch, so that the runtime's tests run where it is not installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from qtseg_edge.spec import ModelCard

# Before torch is loaded: networks as small as these lose time to a second thread, above all where two tests run at once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time, and no clock: a busy machine must not fail a test.
settings.register_profile("tests", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with the authors' checkpoint, input, logits and stage outputs."""
    folder = Path(os.environ.get("QTSEG_REFERENCE") or Path(__file__).parents[2] / "shared" / "reference")
    if not (folder / "weight_best_dice.pt").is_file():
        pytest.skip(f"no reference checkpoint in {folder}; set QTSEG_REFERENCE to the folder that holds weight_best_dice.pt and io.npz")
    return folder


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two classes for 64x96, its weights drawn at random."""
    pytest.importorskip("torch", reason="checkpoints are made with torch")
    from tests.small_models import made_once, write_checkpoint

    return made_once(tmp_path_factory, "small.safetensors", lambda path: write_checkpoint(path, size_hw=(64, 96)))


@pytest.fixture(scope="session")
def small_onnx(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an ONNX file of any batch."""
    pytest.importorskip("onnxsim", reason="exporting needs onnxsim")
    from qtseg_edge.export import example_frames, export_checkpoint
    from tests.small_models import made_once

    return made_once(tmp_path_factory, "small.onnx", lambda path: export_checkpoint(small_checkpoint, path, example_frames(), batch=None))


@pytest.fixture
def card() -> ModelCard:
    """A model of two classes, 64x64."""
    return ModelCard("tiny", ("background", "polyp"), ((0, 0, 0), (0, 200, 120)), (64, 64), "scale")
