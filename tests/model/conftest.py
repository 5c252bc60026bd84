from __future__ import annotations

from pathlib import Path

import pytest

from qtseg_edge.model.checkpoint import Checkpoint, load_checkpoint
from tests.model.authors_format import Size, write_checkpoint


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes in the authors' format. To be read only."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny"), Size())


@pytest.fixture
def tiny(tiny_file: Path) -> Checkpoint:
    return load_checkpoint(tiny_file)
