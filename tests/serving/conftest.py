from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.engines import write_engine


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines are signed with a key of this test alone."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """Of one to four images, best at two, 32x64."""
    folder = tmp_path / "engine"
    folder.mkdir()
    return write_engine(folder, batches=(1, 2, 4))
