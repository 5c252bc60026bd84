"""A machine with an engine on it, for tests of the backend."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qtseg_edge.runtime import Masks
from qtseg_edge.runtime.tensorrt import TensorRtBackend
from tests.runtime.cuda_machine import Machine, install_bindings, install_pycuda
from tests.runtime.engines import SIZE_HW, VERSIONS, write_engine
from tests.runtime.tensorrt_stand_in import Behaviour, install_tensorrt

Uint8 = np.ndarray
DYNAMIC = (1, 4, 8)


class World:
    """A machine, an engine on it and what they do. `opened` closes with the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, stack: ExitStack) -> None:
        self._monkeypatch, self._folder, self._stack = monkeypatch, folder, stack
        self.machine = Machine()
        self.behaviour = Behaviour()

    def opened(
        self, flavour: str = "tensorrt", package: str = "cuda-bindings", batches: tuple[int, int, int] = (1, 1, 1), **machine: Any
    ) -> TensorRtBackend:
        self.install(flavour, package, **machine)
        return self.open(write_engine(self._folder, flavour, batches), package)

    def install(self, flavour: str = "tensorrt", package: str = "cuda-bindings", **machine: Any) -> None:
        self.machine = Machine(**machine)
        (install_pycuda if package == "pycuda" else install_bindings)(self._monkeypatch, self.machine)
        self.behaviour = install_tensorrt(self._monkeypatch, self.machine, flavour, VERSIONS[flavour])

    def open(self, path: Path, package: str = "cuda-bindings") -> TensorRtBackend:
        return self._stack.enter_context(TensorRtBackend(path, cuda_driver=package))

    @property
    def runs(self) -> list[str]:
        return [what for what in self.behaviour.seen if what in ("enqueued", "captured")]


def frames(count: int, batch: int = 1, seed: int = 0) -> list[Uint8]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (batch, *SIZE_HW, 3), np.uint8) for _ in range(count)]


def wanted(image: Uint8) -> Masks:
    red = image[..., 0]
    return Masks((red > 127).astype(np.uint8), np.where(red > 127, red, 255 - red))


def is_right(masks: Masks, image: Uint8) -> bool:
    return all(np.array_equal(got, want) for got, want in zip(masks, wanted(image), strict=True))
