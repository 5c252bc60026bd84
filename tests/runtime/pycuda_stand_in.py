"""PyCUDA and the driver's graph functions on a `Machine`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.runtime.cuda_machine import TEXTS, CudaFault, Machine


class Error(Exception):
    """pycuda.driver.Error."""


def driver_module(machine: Machine) -> ModuleType:
    module = ModuleType("pycuda.driver")

    def checked(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            try:
                machine.check(name)
                return work(*arguments)
            except CudaFault as fault:
                raise Error(f"{name} failed: {fault}") from fault

        return call

    class Context:
        push = staticmethod(machine.enter)
        pop = staticmethod(machine.leave)

    class Device:
        count = staticmethod(lambda: machine.devices)
        name = staticmethod(lambda: machine.name)
        compute_capability = staticmethod(lambda: machine.compute_capability)
        retain_primary_context = staticmethod(Context)

        def __init__(self, index: int) -> None: ...

        def get_attribute(self, attribute: str) -> int:
            assert attribute == "INTEGRATED"
            return int(machine.integrated)

    class Allocation:
        def __init__(self, size: int) -> None:
            self._address = checked("cuMemAlloc", machine.reserve)(size)

        def __int__(self) -> int:
            return self._address

        def __del__(self) -> None:
            if hasattr(self, "_address"):
                machine.free(self._address)

    class Pinned:
        def __init__(self, size: int, mapped: bool) -> None:
            self._address = checked("cuMemHostAlloc", machine.pin)(size, mapped)
            self.__array_interface__ = {"data": (self._address, False), "shape": (size,), "typestr": "|u1", "version": 3}

        def get_device_pointer(self) -> int:
            return self._address

        def __del__(self) -> None:
            if hasattr(self, "_address"):
                machine.free_pinned(self._address)

    class Stream:
        def __init__(self, flags: int) -> None:
            assert flags == 1, "a stream that waits for the default one"
            self.handle = machine.handle()
            machine.queues[self.handle] = []
            self.synchronize = checked("cuStreamSynchronize", lambda handle=self.handle: machine.wait(handle))

        def __del__(self) -> None:
            machine.destroy("stream", self.handle)

    class Event:
        def __init__(self, flags: int) -> None:
            self.handle = machine.handle()
            self.record = checked("cuEventRecord", lambda stream, handle=self.handle: machine.record(handle, stream.handle))
            self.synchronize = checked("cuEventSynchronize", lambda handle=self.handle: machine.wait_for(handle))

        def time_since(self, earlier: Event) -> float:
            return machine.done[self.handle] - machine.done[earlier.handle]

        def __del__(self) -> None:
            machine.destroy("event", self.handle)

    def init() -> None:
        if not machine.devices:
            raise Error("cuInit failed: no CUDA-capable device is detected")

    def upload(target: int, source: np.ndarray, stream: Stream) -> None:
        machine.copy(target, source.ctypes.data, source.nbytes, stream.handle, upload=True)

    def download(target: np.ndarray, source: int, stream: Stream) -> None:
        machine.copy(target.ctypes.data, source, target.nbytes, stream.handle, upload=False)

    for name, value in {
        "Error": Error,
        "init": init,
        "Device": Device,
        "Context": Context,
        "mem_alloc": Allocation,
        "pagelocked_empty": lambda size, dtype, mem_flags: np.asarray(Pinned(size, mem_flags == 2)),
        "Stream": Stream,
        "Event": Event,
        "memcpy_htod_async": checked("cuMemcpyHtoDAsync", upload),
        "memcpy_dtoh_async": checked("cuMemcpyDtoHAsync", download),
        "get_driver_version": lambda: 12060,
        "host_alloc_flags": SimpleNamespace(DEVICEMAP=2),
        "event_flags": SimpleNamespace(BLOCKING_SYNC=1),
        "device_attribute": SimpleNamespace(INTEGRATED="INTEGRATED"),
    }.items():
        setattr(module, name, value)
    return module


def graph_library(machine: Machine) -> SimpleNamespace:
    """libcuda.so.1, as ctypes gives it."""

    def status_of(name: str, work: Callable[..., None]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            try:
                machine.check(name)
                work(*arguments)
            except CudaFault as fault:
                return fault.status
            return 0

        return call

    def begin(stream: ctypes.c_void_p, mode: ctypes.c_int) -> None:
        assert mode.value == 1, "only this thread's work is captured"
        machine.captures[stream.value or 0] = []

    def end(stream: ctypes.c_void_p, graph: Any) -> None:
        graph._obj.value = machine.end_capture(stream.value or 0)

    def instantiate(executable: Any, graph: ctypes.c_void_p, flags: ctypes.c_ulonglong) -> None:
        assert flags.value == 0
        executable._obj.value = machine.instantiate(graph.value or 0)

    def error_string(status: int, text: Any) -> int:
        text._obj.value = TEXTS[status].encode()
        return 0

    works: dict[str, Callable[..., None]] = {
        "cuStreamBeginCapture_v2": begin,
        "cuStreamEndCapture": end,
        "cuGraphInstantiateWithFlags": instantiate,
        "cuGraphLaunch": lambda graph, stream: machine.launch(graph.value, stream.value),
        "cuGraphDestroy": lambda graph: machine.graphs.pop(graph.value, None) and None,
        "cuGraphExecDestroy": lambda graph: machine.destroy("graph", graph.value),
    }
    return SimpleNamespace(cuGetErrorString=error_string, **{name: status_of(name, work) for name, work in works.items()})
