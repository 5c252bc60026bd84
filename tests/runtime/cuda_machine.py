"""A GPU of the CPU's own memory, behind the two packages that speak to one: what is enqueued runs when somebody waits for it, not before.

So a result that is read too early is seen to be old. Memory, streams, captures and contexts that are misused end the test.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

Operation = Callable[[], None]
TEXTS = {0: "no error", 1: "invalid argument", 2: "out of memory", 700: "an illegal memory access was encountered"}
TEXTS |= {35: "CUDA driver version is insufficient for CUDA runtime version", 100: "no CUDA-capable device is detected"}
TEXTS |= {900: "operation not permitted when stream is capturing", 901: "operation failed due to a previous error during capture"}


class CudaFault(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(TEXTS[status])
        self.status = status


class Machine:
    """failing: status by the name of the next call to fail, each good for one failure. log: what was freed, and by whom it was used."""

    def __init__(self, *, devices: int = 1, integrated: bool = False, capacity: int = 1 << 40) -> None:
        self.devices, self.integrated, self.capacity = devices, integrated, capacity
        self.name, self.compute_capability = "Stand-in GPU", (8, 6)
        self.failing: dict[str, int] = {}
        self.log: list[str] = []
        self.blocks: dict[int, ctypes.Array[ctypes.c_uint8]] = {}  # memory of the GPU, and of the CPU where it is mapped
        self.pinned: dict[int, ctypes.Array[ctypes.c_uint8]] = {}
        self.queues: dict[int, list[Operation]] = {}
        self.captures: dict[int, list[Operation] | None] = {}  # None: broken by something that cannot be captured
        self.graphs: dict[int, list[Operation]] = {}
        self.done: dict[int, float] = {}
        self._thread = threading.local()
        self._handles = iter(range(0x1000, 0x100000))
        self._clock = 0.0

    def enter(self) -> None:
        self._thread.depth = getattr(self._thread, "depth", 0) + 1

    def leave(self) -> None:
        self._thread.depth -= 1

    @property
    def depth(self) -> int:
        """How often this thread has made the GPU its own."""
        return getattr(self._thread, "depth", 0)

    def check(self, call: str) -> None:
        assert self.depth, f"{call}: this thread has not made the GPU current"
        if call in self.failing:
            raise CudaFault(self.failing.pop(call))

    def reserve(self, size: int) -> int:
        if size > self.capacity:
            raise CudaFault(2)
        block = (ctypes.c_uint8 * (size + 512))()
        address = ctypes.addressof(block) + 511 & ~255
        self.blocks[address] = block
        return address

    def pin(self, size: int, mapped: bool) -> int:
        address = self.reserve(size)
        self.pinned[address] = self.blocks[address]
        if not mapped:
            del self.blocks[address]
        return address

    def free_pinned(self, address: int) -> None:
        del self.pinned[address]
        self.blocks.pop(address, None)
        self.log.append("pinned")

    def free(self, address: int) -> None:
        del self.blocks[address]
        self.log.append("memory")

    def handle(self) -> int:
        return next(self._handles)

    def enqueue(self, stream: int, operation: Operation) -> None:
        assert stream in self.queues, "not a stream that is open"
        if stream in self.captures:
            recorded = self.captures[stream]
            if recorded is not None:
                recorded.append(operation)
        else:
            self.queues[stream].append(operation)

    def copy(self, target: int, source: int, size: int, stream: int, *, upload: bool) -> None:
        device, host = (target, source) if upload else (source, target)
        assert device in self.blocks, "not memory of the GPU"
        assert host in self.pinned, "a copy beside the CPU's work needs page-locked memory"
        self.enqueue(stream, lambda: ctypes.memmove(target, source, size) and None)

    def record(self, event: int, stream: int) -> None:
        def reached() -> None:
            self._clock += 0.5
            self.done[event] = self._clock

        self.done.pop(event, None)
        self.enqueue(stream, reached)

    def wait(self, stream: int) -> None:
        if stream in self.captures:
            self.captures[stream] = None
            raise CudaFault(900)
        while self.queues[stream]:
            self.queues[stream].pop(0)()

    def wait_for(self, event: int) -> None:
        for stream in list(self.queues):
            if event not in self.done:
                self.wait(stream)
        assert event in self.done, "the event was never recorded"

    def end_capture(self, stream: int) -> int:
        recorded = self.captures.pop(stream)
        if recorded is None:
            raise CudaFault(901)
        graph = self.handle()
        self.graphs[graph] = recorded
        return graph

    def instantiate(self, graph: int) -> int:
        executable = self.handle()
        self.graphs[executable] = list(self.graphs[graph])
        return executable

    def launch(self, executable: int, stream: int) -> None:
        for operation in self.graphs[executable]:
            self.enqueue(stream, operation)

    def destroy(self, kind: str, handle: int) -> None:
        holders = {"stream": self.queues, "graph": self.graphs, "event": self.done}[kind]
        holders.pop(handle, None)  # type: ignore[attr-defined]
        self.log.append(kind)


class _Status(int):
    """As the enums of cuda-bindings: an int that is 0 where all went well."""


def runtime_module(machine: Machine) -> ModuleType:
    """`cuda.bindings.runtime` on `machine`."""
    module = ModuleType("cuda.bindings.runtime")

    def call(name: str, work: Callable[..., object], *, current: bool = True) -> None:
        def called(*arguments: object) -> tuple[object, ...]:
            try:
                if current:
                    machine.check(name)
                value = work(*arguments)
            except CudaFault as fault:
                return (_Status(fault.status), None)
            return (_Status(0),) if value is None else (_Status(0), value)

        called.__name__ = name
        setattr(module, name, called)

    def count() -> int:
        if not machine.devices:
            raise CudaFault(35)
        return machine.devices

    def begin(stream: int, mode: int) -> None:
        assert mode == 1, "only this thread's work is captured"
        machine.captures[stream] = []

    def stream(flags: int) -> int:
        assert flags == 1, "a stream that waits for the default one"
        handle = machine.handle()
        machine.queues[handle] = []
        return handle

    attributes = SimpleNamespace(cudaDevAttrIntegrated=18, cudaDevAttrComputeCapabilityMajor=75, cudaDevAttrComputeCapabilityMinor=76)
    values = {18: int(machine.integrated), 75: machine.compute_capability[0], 76: machine.compute_capability[1]}
    for name, work in {
        "cudaGetDeviceCount": count,
        "cudaSetDevice": lambda device: machine.depth or machine.enter(),
        "cudaDeviceGetAttribute": lambda attribute, device: values[attribute],
        "cudaDriverGetVersion": lambda: 12060,
        "cudaGetDeviceProperties": lambda device: SimpleNamespace(name=machine.name.encode() + b"\0" * 8),
        "cudaGetLastError": lambda: None,
        "cudaGetErrorString": lambda status: TEXTS[status].encode(),
        "cudaFreeHost": machine.free_pinned,
    }.items():
        call(name, work, current=False)
    for name, work in {
        "cudaMalloc": machine.reserve,
        "cudaFree": machine.free,
        "cudaHostAlloc": lambda size, flags: machine.pin(size, flags == 2),
        "cudaHostGetDevicePointer": lambda pointer, flags: pointer,
        "cudaMemcpyAsync": lambda target, source, size, kind, stream: machine.copy(target, source, size, stream, upload=kind == 1),
        "cudaStreamCreateWithFlags": stream,
        "cudaStreamSynchronize": machine.wait,
        "cudaStreamDestroy": lambda stream: machine.destroy("stream", stream),
        "cudaStreamBeginCapture": begin,
        "cudaStreamEndCapture": machine.end_capture,
        "cudaGraphInstantiate": lambda graph, flags: machine.instantiate(graph),
        "cudaGraphLaunch": machine.launch,
        "cudaGraphDestroy": lambda graph: machine.graphs.pop(graph) and None,
        "cudaGraphExecDestroy": lambda graph: machine.destroy("graph", graph),
        "cudaEventCreateWithFlags": lambda flags: machine.handle(),
        "cudaEventRecord": machine.record,
        "cudaEventSynchronize": machine.wait_for,
        "cudaEventElapsedTime": lambda start, end: machine.done[end] - machine.done[start],
        "cudaEventDestroy": lambda event: machine.destroy("event", event),
    }.items():
        call(name, work)
    module.cudaDeviceAttr = attributes  # type: ignore[attr-defined]
    module.cudaHostAllocDefault, module.cudaHostAllocMapped = 0, 2  # type: ignore[attr-defined]
    module.cudaStreamNonBlocking = module.cudaEventBlockingSync = 1  # type: ignore[attr-defined]
    module.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # type: ignore[attr-defined]
    module.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)  # type: ignore[attr-defined]
    return module


def install_bindings(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    """From now on cuda-bindings is installed, and its GPU is `machine`."""
    package, bindings, runtime = ModuleType("cuda"), ModuleType("cuda.bindings"), runtime_module(machine)
    package.__path__ = bindings.__path__ = []
    package.bindings, bindings.runtime = bindings, runtime  # type: ignore[attr-defined]
    _install(monkeypatch, "bindings", package, bindings, runtime)


def install_pycuda(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    """The same of PyCUDA."""
    from tests.runtime.pycuda_stand_in import driver_module, graph_library

    package, driver = ModuleType("pycuda"), driver_module(machine)
    package.__path__ = []
    package.driver = driver  # type: ignore[attr-defined]
    _install(monkeypatch, "pycuda", package, driver)
    import qtseg_edge.runtime.cuda.pycuda as ours

    monkeypatch.setattr(ours, "_library", lambda: graph_library(machine))


def _install(monkeypatch: pytest.MonkeyPatch, ours: str, *modules: ModuleType) -> None:
    from qtseg_edge.runtime.cuda import drivers

    for module in modules:
        module.__spec__ = ModuleSpec(module.__name__, None)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    # `setitem` first, so that what was imported before comes back afterwards, and nothing of the stand-in stays.
    name = f"qtseg_edge.runtime.cuda.{ours}"
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    del sys.modules[name]
    drivers._opened.cache_clear()


def array_at(address: int, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)).reshape(shape)
