"""A plan that has become an engine on the GPU: TensorRT's objects, what they are asked, and the order in which they go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtseg_edge.errors import IncompatibleError, MissingError, QtsegError
from qtseg_edge.runtime.backend import INPUT, OUTPUTS, require_interface
from qtseg_edge.runtime.engine_file import rebuild_command
from qtseg_edge.runtime.tensorrt_cache import read_runtime_cache, write_runtime_cache
from qtseg_edge.runtime.tensorrt_library import TensorRt

_DYNAMIC = -1


class Engine:
    """Opened and used inside `with cuda.current():`, after a GPU has answered: without one TensorRT can take the interpreter down.

    batches: smallest, best and largest that it takes. cache: where TensorRT-RTX keeps what it compiles; not looked at otherwise.
    Raises IncompatibleError where TensorRT refuses the plan or the plan is no engine of this size, MissingError where the GPU's driver
    is too old for TensorRT.
    """

    def __init__(self, path: Path, plan: bytes, library: TensorRt, size_hw: tuple[int, int], cache: Path) -> None:
        trt = library.module
        self._path, self._library, self._cache = path, library, cache
        library.messages.clear()
        self._runtime = trt.Runtime(library.logger)  # outlives the engine
        if any("CUDA initialization failure" in message for message in library.messages):
            # What it gave is no runtime, and the next call would end the process: its CUDA is newer than the driver's.
            raise MissingError(f"{library.flavour} {library.version} cannot use this GPU ({library.reason('')}); update the NVIDIA driver")
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            reason = library.reason("it says nothing more")
            raise IncompatibleError(f"{path}: {library.flavour} {library.version} refuses it ({reason}); {rebuild_command(path)}")
        self.batches = self._checked_batches(size_hw)
        self._config: Any = None
        self._compiled: Any = None
        self._loaded = b""
        if library.is_rtx:
            self._configure()

    def context(self) -> Any:
        """A new execution context, for work on one stream. TensorRT-RTX compiles here what its cache does not hold."""
        self._library.messages.clear()
        context = self._engine.create_execution_context() if self._config is None else self._engine.create_execution_context(self._config)
        if context is None:
            raise QtsegError(f"{self._path}: no execution context ({self._library.reason('is the GPU out of memory?')})")
        return context

    def close(self) -> None:
        """Its contexts are gone. Twice is allowed."""
        if self._compiled is not None:
            compiled = self._compiled.serialize()
            if compiled is not None and bytes(compiled) != self._loaded:
                write_runtime_cache(self._cache, bytes(compiled))
        self._compiled = self._config = None
        self._engine = None
        self._runtime = None

    def _configure(self) -> None:
        trt = self._library.module
        self._config = self._engine.create_runtime_config()  # trt: rtx
        self._config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE  # trt: rtx
        self._compiled = self._config.create_runtime_cache()  # trt: rtx
        content = read_runtime_cache(self._cache)
        if content and self._compiled.deserialize(content):  # trt: rtx
            self._loaded = content
        self._config.set_runtime_cache(self._compiled)  # trt: rtx

    def _checked_batches(self, size_hw: tuple[int, int]) -> tuple[int, int, int]:
        """Buffers are made for what the sidecar says, so the engine must say the same."""
        trt, engine = self._library.module, self._engine
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        require_interface(self._path, names)
        shapes = {name: tuple(engine.get_tensor_shape(name)) for name in names}
        batch = shapes[INPUT][0]
        wanted = {INPUT: (batch, *size_hw, 3), **dict.fromkeys(OUTPUTS, (batch, *size_hw))}
        modes = {name: trt.TensorIOMode.OUTPUT if name in OUTPUTS else trt.TensorIOMode.INPUT for name in names}
        if shapes != wanted or any(
            engine.get_tensor_mode(name) != modes[name] or engine.get_tensor_dtype(name) != trt.DataType.UINT8 for name in names
        ):
            raise IncompatibleError(f"{self._path}: wanted uint8 tensors {wanted}, the engine has {shapes}; {rebuild_command(self._path)}")
        if batch != _DYNAMIC:
            return batch, batch, batch
        smallest, best, largest = (int(shape[0]) for shape in engine.get_tensor_profile_shape(INPUT, 0))
        return smallest, best, largest
