"""What every CUDA driver package has to give. tests/runtime/test_cuda.py is the contract as a test.

Everything here is used inside `with cuda.current():`, in any thread, by one thread at a time. A failed call raises CudaError.
`close` never raises and may be called twice: after a fault of the GPU nothing can be freed, and the end of the process does it.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError

Uint8 = NDArray[np.uint8]


class CudaError(QtsegError):
    """A CUDA call that failed: its name and CUDA's own words."""


@dataclass(frozen=True)
class Gpu:
    """compute_capability: such as "8.7". integrated: it shares its memory with the CPU. driver: newest CUDA it speaks, such as "12.6"."""

    name: str
    compute_capability: str
    integrated: bool
    driver: str


class Resource(ABC):
    @abstractmethod
    def close(self) -> None:
        """Give it back; whoever closes it has waited for the work that uses it."""


class DeviceMemory(Resource):
    """address: aligned to 256 bytes or more."""

    address: int


class HostMemory(Resource):
    """Page-locked memory of the CPU.

    array: (bytes,) of uint8. The memory lives until the last view of it is gone, `close` or not.
    address: as the GPU sees the same bytes where they are mapped, else 0.
    """

    array: Uint8
    address: int


class Event(Resource):
    """A point in a stream's work."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait, without spinning, until the work before it is done. Raises what that work raised."""

    @abstractmethod
    def milliseconds_since(self, earlier: Event) -> float:
        """On the GPU's clock. Both have been waited for."""


class Graph(Resource):
    """Work that was captured, to be launched as often as wanted. It reads and writes the addresses that it was captured with."""

    @abstractmethod
    def launch(self, stream: Stream) -> None: ...


class Stream(Resource):
    """Work in order, never that of the default stream. handle: what TensorRT takes."""

    handle: int

    @abstractmethod
    def upload(self, target: DeviceMemory, source: Uint8) -> None:
        """source: a view of HostMemory, left alone until the stream is done."""

    @abstractmethod
    def download(self, target: Uint8, source: DeviceMemory) -> None:
        """target: a view of HostMemory, whole when the stream is done."""

    @abstractmethod
    def record(self, event: Event) -> None: ...

    @abstractmethod
    def synchronize(self) -> None:
        """Wait for everything. Raises what the work raised."""

    @abstractmethod
    def begin_capture(self) -> None: ...

    @abstractmethod
    def end_capture(self) -> Graph: ...

    def capture(self, enqueue: Callable[[], None]) -> Graph:
        """Record what `enqueue` puts on this stream without running it; other threads' work goes on meanwhile.

        Raises what `enqueue` raises, and CudaError for work that cannot be captured. The stream can be used again in every case.
        """
        self.begin_capture()
        try:
            enqueue()
        except BaseException:
            self._drop_capture()
            raise
        return self.end_capture()

    def _drop_capture(self) -> None:
        with contextlib.suppress(CudaError):  # what broke off the capture is told by the caller
            self.end_capture().close()


class Cuda(ABC):
    """The first GPU that CUDA shows (CUDA_VISIBLE_DEVICES chooses), in the context that the whole process shares.

    name: the package, such as "cuda-bindings".
    """

    name: str
    gpu: Gpu

    @abstractmethod
    def current(self) -> AbstractContextManager[None]:
        """The GPU belongs to this thread inside the block."""

    @abstractmethod
    def reserve(self, size: int) -> DeviceMemory:
        """size: bytes, 1 or more."""

    @abstractmethod
    def pin(self, size: int, mapped: bool = False) -> HostMemory:
        """size: bytes, 1 or more. mapped: the GPU works in the same bytes, at `address`."""

    @abstractmethod
    def stream(self) -> Stream: ...

    @abstractmethod
    def event(self) -> Event: ...
