"""CUDA through PyCUDA, which JetPack 6 images carry: the process's primary context, pushed for each piece of work and popped after it.

PyCUDA has no CUDA graphs; those few functions are called in the driver's library, which PyCUDA has loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pycuda.driver as driver

from qtseg_edge.runtime.cuda.contract import Cuda, CudaError, DeviceMemory, Event, Gpu, Graph, HostMemory, Stream, Uint8

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL


class PyCuda(Cuda):
    """Raises CudaError where no GPU answers."""

    def __init__(self) -> None:
        self.name = "pycuda"
        with _translated():
            driver.init()
            if not driver.Device.count():
                raise CudaError("Device.count: 0")
            device = driver.Device(0)
            self._context = device.retain_primary_context()
            major, minor = device.compute_capability()
            integrated = bool(device.get_attribute(driver.device_attribute.INTEGRATED))
            version = driver.get_driver_version()
            self.gpu = Gpu(device.name(), f"{major}.{minor}", integrated, f"{version // 1000}.{version % 1000 // 10}")

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        with _translated():
            self._context.push()
        try:
            yield
        finally:
            driver.Context.pop()  # a context that is left pushed aborts the process at its end

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
        with _translated():
            self._allocation = driver.mem_alloc(size)
        self.address = int(self._allocation)

    def close(self) -> None:
        self._allocation = None  # PyCUDA frees what nobody holds
        self.address = 0


class _HostMemory(HostMemory):
    def __init__(self, size: int, mapped: bool) -> None:
        with _translated():
            pinned: Any = driver.pagelocked_empty(size, np.uint8, mem_flags=driver.host_alloc_flags.DEVICEMAP if mapped else 0)
            self.address = int(pinned.base.get_device_pointer()) if mapped else 0
        self.array = pinned

    def close(self) -> None:
        self.array = np.empty(0, np.uint8)


class _Event(Event):
    def __init__(self) -> None:
        with _translated():
            self.vendor = driver.Event(driver.event_flags.BLOCKING_SYNC)

    def synchronize(self) -> None:
        with _translated():
            self.vendor.synchronize()

    def milliseconds_since(self, earlier: Event) -> float:
        with _translated():
            return float(self.vendor.time_since(cast(_Event, earlier).vendor))

    def close(self) -> None:
        self.vendor = None


class _Stream(Stream):
    def __init__(self) -> None:
        with _translated():
            self._stream = driver.Stream(_NON_BLOCKING)
        self.handle = int(self._stream.handle)

    def upload(self, target: DeviceMemory, source: Uint8) -> None:
        with _translated():
            driver.memcpy_htod_async(target.address, source, self._stream)

    def download(self, target: Uint8, source: DeviceMemory) -> None:
        with _translated():
            driver.memcpy_dtoh_async(target, source.address, self._stream)

    def record(self, event: Event) -> None:
        with _translated():
            cast(_Event, event).vendor.record(self._stream)

    def synchronize(self) -> None:
        with _translated():
            self._stream.synchronize()

    def begin_capture(self) -> None:
        _call("cuStreamBeginCapture_v2", ctypes.c_void_p(self.handle), ctypes.c_int(_THREAD_LOCAL))

    def end_capture(self) -> Graph:
        recorded = ctypes.c_void_p()
        _call("cuStreamEndCapture", ctypes.c_void_p(self.handle), ctypes.byref(recorded))
        return _Graph(recorded)

    def close(self) -> None:
        self._stream = None


class _Graph(Graph):
    def __init__(self, recorded: ctypes.c_void_p) -> None:
        self._executable = ctypes.c_void_p()
        try:
            _call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), recorded, ctypes.c_ulonglong(0))
        finally:
            _library().cuGraphDestroy(recorded)

    def launch(self, stream: Stream) -> None:
        _call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream.handle))

    def close(self) -> None:
        if self._executable:
            _library().cuGraphExecDestroy(self._executable)
            self._executable = ctypes.c_void_p()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except driver.Error as error:
        raise CudaError(" ".join(str(error).split())) from error


@functools.cache
def _library() -> Any:
    return ctypes.CDLL("libcuda.so.1")


def _call(name: str, *arguments: Any) -> None:
    """Raises CudaError."""
    status = getattr(_library(), name)(*arguments)
    if status:
        text = ctypes.c_char_p()
        _library().cuGetErrorString(status, ctypes.byref(text))
        raise CudaError(f"{name}: {(text.value or b'unknown error').decode()}")
