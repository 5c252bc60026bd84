"""TensorRT on a `Machine`: engines that really compute, from and to the addresses they are given, and fail where a test wants it.

The network is that of FakeBackend: pixels whose red exceeds 127 are foreground.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qtseg_edge.runtime import tensorrt_library
from tests.runtime.cuda_machine import Machine, array_at

PROFILE = (1, 1, 1)


@dataclass
class Behaviour:
    """What an engine does of itself. enqueue: called first with True while a stream captures; False from it refuses the work.

    records: whether what is enqueued under capture is recorded at all. calls: of the engine. compiled: kernels made at run time.
    """

    enqueue: Callable[[bool], bool] = lambda capturing: True
    records: bool = True
    deserialises: bool = True
    initialises: bool = True
    has_context: bool = True
    seen: list[str] = field(default_factory=list)
    compiled: int = 0


def plan_bytes(size_hw: tuple[int, int] = (32, 64), batches: tuple[int, int, int] = PROFILE, **changed: Any) -> bytes:
    """changed: names, dtypes or shapes that are not those of a network of ours."""
    return json.dumps({"size_hw": size_hw, "batches": batches, **changed}).encode()


def install_tensorrt(monkeypatch: pytest.MonkeyPatch, machine: Machine, flavour: str = "tensorrt", version: str = "10.3.0") -> Behaviour:
    behaviour = Behaviour()
    name = flavour.replace("-", "_")
    module = _module(name, version, machine, behaviour)
    monkeypatch.setitem(sys.modules, name, module)
    # Without its cache: what is in there, the real one with a logger that may never go, has to stay.
    monkeypatch.setattr("qtseg_edge.runtime.tensorrt.load_tensorrt", tensorrt_library.load_tensorrt.__wrapped__)
    return behaviour


def _module(name: str, version: str, machine: Machine, behaviour: Behaviour) -> ModuleType:
    module: Any = ModuleType(name)
    module.__spec__, module.__version__ = ModuleSpec(name, None), version
    module.ILogger = type("ILogger", (), {"WARNING": 2})
    module.DataType = SimpleNamespace(UINT8="uint8", FLOAT="float32")
    module.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    module.Runtime = lambda logger: Runtime(machine, behaviour, logger)
    if name == "tensorrt_rtx":
        module.CudaGraphStrategy = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    return module


class _Logged:
    """Says when it goes, since the order matters."""

    def __init__(self, machine: Machine, behaviour: Behaviour, logger: Any) -> None:
        self.machine, self.behaviour, self.logger = machine, behaviour, logger
        behaviour.seen.append(type(self).__name__)

    def __del__(self) -> None:
        self.machine.log.append(type(self).__name__)


class Runtime(_Logged):
    def __init__(self, machine: Machine, behaviour: Behaviour, logger: Any) -> None:
        assert machine.depth, "TensorRT without a GPU that was made current"
        super().__init__(machine, behaviour, logger)
        if not behaviour.initialises:
            logger.log(1, "createInferRuntime: Error Code 6: API Usage Error (CUDA initialization failure with error: 35.)")

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        assert self.behaviour.initialises, "this ends the interpreter"
        if not self.behaviour.deserialises:
            self.logger.log(1, "IRuntime::deserializeCudaEngine: Error Code 1: Serialization\n (assertion failed)")
            return None
        return Engine(self, json.loads(plan))


class Engine(_Logged):
    def __init__(self, runtime: Runtime, plan: dict[str, Any]) -> None:
        super().__init__(runtime.machine, runtime.behaviour, runtime.logger)
        height, width = plan["size_hw"]
        self.batches = plan["batches"]
        batch = self.batches[0] if len(set(self.batches)) == 1 else -1
        self.shapes = {"image": (batch, height, width, 3), "mask": (batch, height, width), "confidence": (batch, height, width)}
        self.shapes.update({name: tuple(shape) for name, shape in plan.get("shapes", {}).items()})
        self.dtypes = {**dict.fromkeys(self.shapes, "uint8"), **plan.get("dtypes", {})}
        self.num_io_tensors = len(self.shapes)

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_tensor_dtype(self, name: str) -> str:
        return self.dtypes[name]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "image" else "out"

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == ("image", 0)
        return [(batch, *self.shapes[name][1:]) for batch in self.batches]

    def create_runtime_config(self) -> Config:
        return Config(self.machine, self.behaviour, self.logger)

    def create_execution_context(self, config: Config | None = None) -> Context | None:
        if not self.behaviour.has_context:
            self.logger.log(1, "Error Code 2: OutOfMemory")
            return None
        if config is not None:
            assert config.cuda_graph_strategy == "whole" and config.cache is not None
            config.cache.compile()
        return Context(self)


class Cache(_Logged):
    """Compiled kernels, as text."""

    content = b""

    def compile(self) -> None:
        if not self.content:
            self.behaviour.compiled += 1
            self.content = b"kernels"

    def deserialize(self, blob: bytes) -> bool:
        assert blob == b"kernels", "what is damaged must not reach TensorRT-RTX"
        self.content = blob
        return True

    def serialize(self) -> bytes:
        return self.content


class Config(_Logged):
    cuda_graph_strategy: str | None = None
    cache: Cache | None = None

    def create_runtime_cache(self) -> Cache:
        return Cache(self.machine, self.behaviour, self.logger)

    def set_runtime_cache(self, cache: Cache) -> bool:
        self.cache = cache
        return True


class Context(_Logged):
    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.machine, engine.behaviour, engine.logger)
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] | None = None
        self.allocated = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self.engine.batches
        self.shape = shape
        return name == "image" and smallest <= shape[0] <= largest and shape[1:] == self.engine.shapes[name][1:]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.shapes

    def infer_shapes(self) -> list[str]:
        return [] if self.shape else ["image"]

    def execute_async_v3(self, handle: int) -> bool:
        capturing = handle in self.machine.captures
        self.behaviour.seen.append("captured" if capturing else "enqueued")
        assert self.shape is not None and set(self.addresses) == set(self.engine.shapes)
        assert all(address in self.machine.blocks and address % 256 == 0 for address in self.addresses.values()), "no memory of the GPU"
        if capturing and not self.allocated:
            return False  # the first run allocates, which no capture allows
        if not self.behaviour.enqueue(capturing):
            self.logger.log(1, "IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (refused)")
            return False
        self.allocated = True
        if capturing and not self.behaviour.records:
            return True
        self.machine.enqueue(handle, lambda shape=self.shape, addresses=dict(self.addresses): _compute(shape, addresses))
        return True


def _compute(shape: tuple[int, ...], addresses: dict[str, int]) -> None:
    red = array_at(addresses["image"], shape)[..., 0]
    array_at(addresses["mask"], shape[:3])[:] = red > 127
    array_at(addresses["confidence"], shape[:3])[:] = np.where(red > 127, red, 255 - red)
