"""The child process and the parent's end of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from qtseg_edge.benchmark.process import Worker
from qtseg_edge.benchmark.rounds import EXAMPLE_FRAMES
from qtseg_edge.data import image_files
from qtseg_edge.errors import IncompatibleError, QtsegError
from tests.benchmark.conftest import Models
from tests.export.builds import builders_of, is_running


def opened(worker: Worker, path: Path, device: str = "fake", batch: int = 1, size_hw: tuple[int, int] = (64, 64)) -> dict[str, object]:
    found: dict[str, object] = worker.ask("open", 60, path=path, device=device, size_hw=size_hw, batch=batch, images=EXAMPLE_FRAMES)
    return found


def test_a_worker_times_writes_masks_and_is_gone_afterwards(models: Models, tmp_path: Path) -> None:
    (path,) = models("a")
    with Worker() as worker:
        facts = opened(worker, path, batch=4)
        assert facts["name"] == "fake"
        for what in ("device_only", "end_to_end"):
            found = worker.ask("time", 60, what=what, seconds=0.05)
            assert sum(found["ms"]) >= 50 and min(found["ms"]) > 0 and found["bytes"] >= 0
        assert worker.ask("masks", 60, images=EXAMPLE_FRAMES, labelled=False, into=tmp_path / "masks.npy") == 6
        masks = np.load(tmp_path / "masks.npy")
        (child,) = builders_of(os.getpid())
    assert not is_running(child)
    assert masks.shape == (len(image_files(EXAMPLE_FRAMES)), 64, 64) and 0 < masks.mean() < 1
    assert all(mask.any() for mask in masks), "the last two fill a batch of four"


def test_a_backend_that_ends_its_process_is_an_error_with_its_last_words(models: Models, stand_in: Path) -> None:
    (path,) = models("crashing")
    with Worker() as worker:
        opened(worker, path, "onnxruntime")
        with pytest.raises(QtsegError, match=r"^its process crashed \(SIGABRT\): out of luck$"):
            worker.ask("time", 60, what="device_only", seconds=5)


def test_a_backend_that_refuses_can_be_asked_again(models: Models, stand_in: Path) -> None:
    refused, good = models("refused", "a")
    with Worker() as worker:
        with pytest.raises(IncompatibleError, match="no such operation"):
            opened(worker, refused, "onnxruntime")
        assert opened(worker, good, "onnxruntime")["name"] == "onnxruntime"


def test_a_backend_that_hangs_is_ended(models: Models) -> None:
    (path,) = models("a")
    with Worker() as worker:
        opened(worker, path)
        started = time.monotonic()
        with pytest.raises(QtsegError, match=r"^it did not answer within 0.2 s and was ended$"):
            worker.ask("time", 0.2, what="device_only", seconds=60)
        assert time.monotonic() - started < 30
        assert builders_of(os.getpid()) == []


def test_a_mistake_in_the_worker_is_one_line() -> None:
    with Worker() as worker, pytest.raises(QtsegError, match=r"^its process ended with exit code 1: .*AssertionError$"):
        worker.ask("time", 60, what="device_only", seconds=1)
