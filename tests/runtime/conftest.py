from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qtseg_edge.runtime.cuda import drivers
from tests.runtime.tensorrt_world import World


@pytest.fixture
def no_thread_is_left() -> Iterator[None]:
    """Whatever the test does, its threads have ended with it."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(2)
    assert not [thread.name for thread in left if thread.is_alive()]


@pytest.fixture(params=["cuda-bindings", "pycuda"])
def package(request: pytest.FixtureRequest) -> str:
    """Through which CUDA is reached."""
    return str(request.param)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """A GPU without an engine yet. Key and cache of the user are the test's."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    drivers._opened.cache_clear()
    with ExitStack() as stack:
        yield World(monkeypatch, tmp_path, stack)
    drivers._opened.cache_clear()
