"""CUDA through NVIDIA's cuda-bindings: the runtime API, whose context is the process's primary one."""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
from cuda.bindings import runtime

from qtseg_edge.runtime.cuda.contract import Cuda, CudaError, DeviceMemory, Event, Gpu, Graph, HostMemory, Stream, Uint8

_DEVICE = 0


class BindingsCuda(Cuda):
    """Raises CudaError where no GPU answers."""

    def __init__(self) -> None:
        self.name = "cuda-bindings"
        if not _call(runtime.cudaGetDeviceCount):
            raise CudaError("cudaGetDeviceCount: 0")
        attributes = runtime.cudaDeviceAttr
        major = _attribute(attributes.cudaDevAttrComputeCapabilityMajor)
        minor = _attribute(attributes.cudaDevAttrComputeCapabilityMinor)
        driver = int(_call(runtime.cudaDriverGetVersion))
        properties = _call(runtime.cudaGetDeviceProperties, _DEVICE)
        self.gpu = Gpu(
            properties.name.split(b"\0")[0].decode(),
            f"{major}.{minor}",
            bool(_attribute(attributes.cudaDevAttrIntegrated)),
            f"{driver // 1000}.{driver % 1000 // 10}",
        )

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        _call(runtime.cudaSetDevice, _DEVICE)
        yield

    def reserve(self, size: int) -> DeviceMemory:
        return _DeviceMemory(size)

    def pin(self, size: int, mapped: bool = False) -> HostMemory:
        return _HostMemory(size, mapped)

    def stream(self) -> Stream:
        return _Stream()

    def event(self) -> Event:
        return _Event()


class _DeviceMemory(DeviceMemory):
    def __init__(self, size: int) -> None:
        self.address = int(_call(runtime.cudaMalloc, size))

    def close(self) -> None:
        if self.address:
            runtime.cudaFree(self.address)
            self.address = 0


class _HostMemory(HostMemory):
    def __init__(self, size: int, mapped: bool) -> None:
        pointer = int(_call(runtime.cudaHostAlloc, size, runtime.cudaHostAllocMapped if mapped else runtime.cudaHostAllocDefault))
        owner = (ctypes.c_uint8 * size).from_address(pointer)
        weakref.finalize(owner, runtime.cudaFreeHost, pointer).atexit = False
        self.array = np.ctypeslib.as_array(owner)  # it and its views hold the owner
        self.address = int(_call(runtime.cudaHostGetDevicePointer, pointer, 0)) if mapped else 0

    def close(self) -> None:
        self.array = np.empty(0, np.uint8)


class _Event(Event):
    def __init__(self) -> None:
        self.vendor = _call(runtime.cudaEventCreateWithFlags, runtime.cudaEventBlockingSync)

    def synchronize(self) -> None:
        _call(runtime.cudaEventSynchronize, self.vendor)

    def milliseconds_since(self, earlier: Event) -> float:
        return float(_call(runtime.cudaEventElapsedTime, cast(_Event, earlier).vendor, self.vendor))

    def close(self) -> None:
        if self.vendor is not None:
            runtime.cudaEventDestroy(self.vendor)
            self.vendor = None


class _Graph(Graph):
    def __init__(self, recorded: Any) -> None:
        self._executable = None
        try:
            self._executable = _call(runtime.cudaGraphInstantiate, recorded, 0)
        finally:
            runtime.cudaGraphDestroy(recorded)

    def launch(self, stream: Stream) -> None:
        _call(runtime.cudaGraphLaunch, self._executable, stream.handle)

    def close(self) -> None:
        if self._executable is not None:
            runtime.cudaGraphExecDestroy(self._executable)
            self._executable = None


class _Stream(Stream):
    def __init__(self) -> None:
        self._stream = _call(runtime.cudaStreamCreateWithFlags, runtime.cudaStreamNonBlocking)
        self.handle = int(self._stream)

    def upload(self, target: DeviceMemory, source: Uint8) -> None:
        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        _call(runtime.cudaMemcpyAsync, target.address, source.ctypes.data, source.nbytes, kind, self._stream)

    def download(self, target: Uint8, source: DeviceMemory) -> None:
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        _call(runtime.cudaMemcpyAsync, target.ctypes.data, source.address, target.nbytes, kind, self._stream)

    def record(self, event: Event) -> None:
        _call(runtime.cudaEventRecord, cast(_Event, event).vendor, self._stream)

    def synchronize(self) -> None:
        _call(runtime.cudaStreamSynchronize, self._stream)

    def begin_capture(self) -> None:
        _call(runtime.cudaStreamBeginCapture, self._stream, runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)

    def end_capture(self) -> Graph:
        return _Graph(_call(runtime.cudaStreamEndCapture, self._stream))

    def close(self) -> None:
        if self._stream is not None:
            runtime.cudaStreamDestroy(self._stream)
            self._stream = None


def _attribute(attribute: Any) -> int:
    return int(_call(runtime.cudaDeviceGetAttribute, attribute, _DEVICE))


def _call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """What it gives beside its status, or None. Raises CudaError."""
    try:
        status, *values = function(*arguments)
    except RuntimeError as error:  # a library of CUDA's that it looks for only now
        raise CudaError(f"{function.__name__}: {error}") from error
    if int(status):
        runtime.cudaGetLastError()  # so that the next call is not blamed for it
        raise CudaError(f"{function.__name__}: {runtime.cudaGetErrorString(status)[1].decode()}")
    return values[0] if values else None
