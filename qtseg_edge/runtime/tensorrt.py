"""TensorRT and TensorRT-RTX: an engine built by `qtseg-edge build-engine`, on an NVIDIA GPU."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime.backend import Backend, Masks
from qtseg_edge.runtime.cuda.contract import CudaError
from qtseg_edge.runtime.cuda.drivers import open_cuda
from qtseg_edge.runtime.engine_file import read_plan, read_sidecar, require_gpu, require_library, require_platform
from qtseg_edge.runtime.tensorrt_cache import runtime_cache_path
from qtseg_edge.runtime.tensorrt_engine import Engine
from qtseg_edge.runtime.tensorrt_library import load_tensorrt
from qtseg_edge.runtime.tensorrt_slot import Slot

Uint8 = NDArray[np.uint8]
_SLOTS = 2


@dataclass(frozen=True, eq=False)
class Ticket:
    """Images that were submitted: good for one `result`."""

    slot: Slot


class TensorRtBackend(Backend):
    """Any batch within the engine's range. A larger one than the engine is best at runs in parts, two at a time.

    `submit` and `result` are what `infer` is made of: with two images in flight one is copied while the other is computed. Each of
    the two has its own stream and execution context; the second is made when it is first wanted.

    trust: open an engine that somebody else built. Raises UsageError (no engine), IncompatibleError (not for this machine, or not what
    its sidecar says), MissingError (no TensorRT, no CUDA, no GPU), QtsegError (the GPU has no room for it).
    """

    def __init__(self, path: Path, trust: bool = False, cuda_driver: str = "auto") -> None:
        sidecar = read_sidecar(path)
        require_platform(path, sidecar)
        plan = read_plan(path, sidecar, trust)
        self._library = load_tensorrt(sidecar.flavour)
        require_library(path, sidecar, self._library.version)
        self._cuda = open_cuda(cuda_driver)  # before TensorRT does anything: without a GPU it can end the process
        require_gpu(path, sidecar, self._cuda.gpu)
        self.name = f"{sidecar.flavour} {sidecar.precision}"
        self.spec = sidecar.spec
        cache = runtime_cache_path(sidecar.plan_sha256, self._library.version, self._cuda.gpu)
        self._idle: list[Slot] = []
        self._busy: list[Ticket] = []
        self._engine: Engine | None = None
        with self._cuda.current():
            self._engine = Engine(path, plan, self._library, self.spec.size_hw, cache)
            self.largest_batch = self._engine.batches[2]
            try:
                self._idle.append(self._new_slot(self._engine))
            except BaseException:
                self.close()
                raise

    def submit(self, image: Uint8) -> Ticket:
        """image: as `infer` takes it, of a batch that the engine takes whole; copied before this returns.

        Raises UsageError for another image, or for a third before the `result` of one of two.
        """
        engine = self._opened()
        self._require_batch(engine, image)
        with self._cuda.current():
            if not self._idle and len(self._busy) < _SLOTS:
                self._idle.append(self._new_slot(engine))
            if not self._idle:
                raise UsageError(f"{self.name}: {_SLOTS} are in flight; take the result of one first")
            with self._failures("inference failed"):
                self._idle[-1].start(image)
        ticket = Ticket(self._idle.pop())
        self._busy.append(ticket)
        return ticket

    def result(self, ticket: Ticket) -> Masks:
        """Waits. Views that the next `submit` may overwrite. Raises QtsegError where the GPU failed, UsageError for an old ticket."""
        self._opened()
        if ticket not in self._busy:
            raise UsageError(f"{self.name}: the result of this ticket was taken before, or lost to an error")
        try:
            with self._cuda.current(), self._failures("inference failed"):
                return ticket.slot.finish()
        finally:
            self._busy.remove(ticket)
            self._idle.append(ticket.slot)

    def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is None:
            return
        with contextlib.suppress(CudaError), self._cuda.current():
            for slot in (*self._idle, *(ticket.slot for ticket in self._busy)):
                slot.close()
            self._idle, self._busy = [], []
            engine.close()

    def _infer(self, image: Uint8) -> Masks:
        engine = self._opened()
        self._require_batch(engine, image)
        if self._busy:
            raise UsageError(f"{self.name}: images are in flight; take their results before `infer`")
        size = _part(engine.batches, len(image))
        try:
            if size == len(image):
                return self.result(self.submit(image))
            return self._in_parts(image, size)
        except BaseException:
            self._abandon()
            raise

    def _in_parts(self, image: Uint8, size: int) -> Masks:
        masks = Masks(np.empty(image.shape[:3], np.uint8), np.empty(image.shape[:3], np.uint8))
        waiting: deque[tuple[slice, Ticket]] = deque()
        for begin in range(0, len(image), size):
            if len(waiting) == _SLOTS:
                self._take(masks, *waiting.popleft())
            part = slice(begin, begin + size)
            waiting.append((part, self.submit(image[part])))
        while waiting:
            self._take(masks, *waiting.popleft())
        return masks

    def _take(self, masks: Masks, part: slice, ticket: Ticket) -> None:
        for whole, values in zip(masks, self.result(ticket), strict=True):
            whole[part] = values

    def _abandon(self) -> None:
        """After a failure nothing is in flight, and every later image begins anew."""
        with contextlib.suppress(CudaError), self._cuda.current():
            for ticket in self._busy:
                ticket.slot.settle()
        self._idle += [ticket.slot for ticket in self._busy]
        self._busy = []

    def _require_batch(self, engine: Engine, image: Uint8) -> None:
        smallest, _, largest = engine.batches
        if not smallest <= len(image) <= largest:
            raise UsageError(f"{self.name}: this engine takes {smallest} to {largest} images at once, got {len(image)}")
        if image.dtype != np.uint8 or image.shape[1:] != (*self.spec.size_hw, 3):
            raise UsageError(f"{self.name}: wanted uint8 images of shape {(*self.spec.size_hw, 3)}, got {image.dtype} {image.shape[1:]}")

    def _new_slot(self, engine: Engine) -> Slot:
        with self._failures("the GPU has no room for it"):
            return Slot(self._cuda, engine.context(), self._library, self.spec.size_hw, engine.batches[2])

    def _opened(self) -> Engine:
        if self._engine is None:
            raise QtsegError(f"{self.name}: the backend is closed")
        return self._engine

    @contextlib.contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        try:
            yield
        except QtsegError as error:
            raise QtsegError(f"{self.name}: {what} ({error})") from error


def _part(batches: tuple[int, int, int], batch: int) -> int:
    """How many images to run at once: as many as the engine was tuned for, unless what remains would be too few for it."""
    smallest, best, _ = batches
    return best if batch > best and (batch % best == 0 or batch % best >= smallest) else batch
