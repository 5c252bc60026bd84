from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.model import authors_format
from tests.training.commands import Whole, arguments, environment, write_larger_data
from tests.training.discs import QUICK, Run, Step, collecting, go, write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images to train on, two to score; one of each is not square. To be read only."""
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two classes, small enough to train here. To be read only."""
    return authors_format.write_checkpoint(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path, start: Path) -> Run:
    """A run of QUICK from `start`, with what it told. To be read only."""
    folder = tmp_path_factory.mktemp("runs") / "new" / "run"
    steps: list[Step] = []
    best = go(data, folder, QUICK, checkpoint=start, advance=collecting(steps))
    return Run(folder, best, steps)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, start: Path) -> Whole:
    """Eight steps in a process of their own. To be read only."""
    folder = tmp_path_factory.mktemp("whole")
    data = write_larger_data(folder / "data")
    done = subprocess.run(arguments(data, start, "whole"), cwd=folder, env=environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return Whole(data, start, folder / "runs" / "train" / "whole")
