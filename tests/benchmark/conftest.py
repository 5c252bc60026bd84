from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmark.made import STAND_IN

Models = Callable[..., list[Path]]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ONNX Runtime is replaced for every child process. The file that its calls are written to: name, process, start and end in ns."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "onnxruntime.py").write_text(STAND_IN, encoding="utf-8")
    monkeypatch.syspath_prepend(modules)
    log = tmp_path / "calls.txt"
    log.touch()
    monkeypatch.setenv("STAND_IN_LOG", str(log))
    return log


@pytest.fixture
def models(small_onnx: Path, tmp_path: Path) -> Models:
    """Copies of a small model, of any batch for 64x96, under names that say what the stand-in does with them."""

    def named(*names: str) -> list[Path]:
        return [Path(shutil.copy(small_onnx, tmp_path / f"{name}.onnx")) for name in names]

    return named
