"""A backend without a network: for tests of everything around it, for soak runs and demonstrations."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.backend import Backend, Masks
from qtseg_edge.spec import ModelCard, ModelSpec

FAKE_CARD = ModelCard("fake", ("background", "bright red"), ((0, 0, 0), (0, 200, 120)), (256, 256), "scale", limits="not a network")


class FakeBackend(Backend):
    """Marks pixels whose red exceeds 127, with confidence growing with the distance from there.

    seconds: how long every call takes. fail_at: the call, counted from 0, that raises QtsegError.
    """

    def __init__(self, spec: ModelSpec | None = None, *, seconds: float = 0.0, fail_at: int | None = None) -> None:
        self.name = "fake"
        self.spec = spec or ModelSpec(FAKE_CARD, FAKE_CARD.size_hw, None)
        self.closed = False
        self._seconds, self._fail_at, self._calls = seconds, fail_at, 0

    def _infer(self, image: NDArray[np.uint8]) -> Masks:
        if self.closed:
            raise QtsegError("fake: the backend is closed")
        if self._calls == self._fail_at:
            raise QtsegError(f"fake: failed at call {self._calls}, as asked")
        self._calls += 1
        if self._seconds:
            time.sleep(self._seconds)
        red = image[..., 0]
        return Masks((red > 127).astype(np.uint8), np.where(red > 127, red, 255 - red).astype(np.uint8))

    def close(self) -> None:
        self.closed = True
