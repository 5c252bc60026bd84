"""Fixtures shared by all tests. Nothing here imports torch, so that the runtime's tests run where it is not installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from qtseg_edge.spec import ModelCard

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


@pytest.fixture
def card() -> ModelCard:
    """A model of two classes, 64x64."""
    return ModelCard("tiny", ("background", "polyp"), ((0, 0, 0), (0, 200, 120)), (64, 64), "scale")
