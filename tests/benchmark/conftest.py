from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmark.made import STAND_IN
from tests.export.builds import written
from tests.export.graphs import residual

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
def models(tmp_path: Path) -> Models:
    """Models of any batch for 64x64, under names that say what the stand-in does with them."""

    def named(*names: str) -> list[Path]:
        return [written(tmp_path / f"{name}.onnx", residual(size=64), batch=None) for name in names]

    return named
