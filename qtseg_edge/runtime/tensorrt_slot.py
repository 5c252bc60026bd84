"""What one image in flight needs: an execution context, a stream, buffers, and the work recorded as a CUDA graph."""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.backend import INPUT, OUTPUTS, Masks
from qtseg_edge.runtime.cuda.contract import Cuda, CudaError, DeviceMemory, Graph, Stream
from qtseg_edge.runtime.tensorrt_library import TensorRt

Uint8 = NDArray[np.uint8]


class Slot:
    """Everything is called inside `with cuda.current():`. What fails raises QtsegError; nothing is in flight then, and the next `start`
    begins anew.

    The first image of a batch size runs as it comes, which also lets TensorRT allocate. At the second the same work is recorded, and
    from then on replayed with one call: upload, engine, download. A size that comes once costs no recording.
    largest: batch that the buffers hold. On an integrated GPU it works in the CPU's memory and nothing is copied.
    """

    def __init__(self, cuda: Cuda, context: Any, library: TensorRt, size_hw: tuple[int, int], largest: int) -> None:
        self._context, self._library = context, library
        self._records = not library.is_rtx  # TensorRT-RTX replays by itself
        self._batch = 0
        self._ran = False
        self._graph: Graph | None = None
        shapes = {INPUT: (largest, *size_hw, 3), **dict.fromkeys(OUTPUTS, (largest, *size_hw))}
        with ExitStack() as stack:
            self._stream, self._done = cuda.stream(), cuda.event()
            stack.callback(self._stream.close)
            stack.callback(self._done.close)
            self._buffers = {name: _Buffer(cuda, shape, stack) for name, shape in shapes.items()}
            self._resources = stack.pop_all()

    def start(self, image: Uint8) -> None:
        """image: uint8 (N, H, W, 3), copied before this returns. `finish` gives its masks."""
        try:
            if len(image) != self._batch:
                self._bind(len(image))
            np.copyto(self._host(INPUT), image, casting="no")
            self._run()
            self._stream.record(self._done)
        except BaseException:
            self.settle()
            raise

    def finish(self) -> Masks:
        """Wait for what was started. Views that the next `start` overwrites."""
        try:
            self._done.synchronize()
        except BaseException:
            self.settle()
            raise
        return Masks(*(self._host(name) for name in OUTPUTS))

    def settle(self) -> None:
        """Wait for the GPU to let go of the buffers, whatever comes of the work."""
        with contextlib.suppress(CudaError):
            self._stream.synchronize()
        self._forget()

    def close(self) -> None:
        """Twice is allowed."""
        self.settle()
        self._context = None
        self._resources.close()

    def _bind(self, batch: int) -> None:
        self._stream.synchronize()
        self._forget()
        shape = (batch, *self._buffers[INPUT].array.shape[1:])
        if not self._context.set_input_shape(INPUT, shape):
            raise QtsegError(f"wanted an engine that takes {shape}: {self._library.reason('TensorRT refuses it')}")
        for name, buffer in self._buffers.items():
            if not self._context.set_tensor_address(name, buffer.address):
                raise QtsegError(f"tensor {name}: {self._library.reason('TensorRT refuses its address')}")
        missing = self._context.infer_shapes()
        if missing:
            raise QtsegError(f"shapes of {', '.join(missing)} are not known")
        self._batch = batch

    def _forget(self) -> None:
        """What was recorded goes with the shape it was recorded for."""
        if self._graph is not None:
            self._graph.close()
        self._graph, self._ran, self._batch = None, False, 0

    def _run(self) -> None:
        if self._graph is not None:
            self._graph.launch(self._stream)
            return
        self._enqueue()
        if self._ran and self._records:
            self._graph = self._recorded()
            if self._graph is None:
                self._records = False
                self._enqueue()
        self._ran = True

    def _enqueue(self) -> None:
        self._buffers[INPUT].upload(self._stream, self._batch)
        self._library.messages.clear()
        try:
            accepted = self._context.execute_async_v3(self._stream.handle)
        except RuntimeError as error:
            raise QtsegError(f"TensorRT: {error}") from error
        if not accepted:
            raise QtsegError(self._library.reason("TensorRT refuses to run it and says nothing more"))
        for name in OUTPUTS:
            self._buffers[name].download(self._stream, self._batch)

    def _recorded(self) -> Graph | None:
        """The work as a graph that was seen to write its outputs anew: a refused capture may leave one that writes nothing.

        None where there is no such graph; the outputs are then to be computed again.
        """
        self._stream.synchronize()
        wanted = [self._host(name).copy() for name in OUTPUTS]
        graph = None
        try:
            graph = self._stream.capture(self._enqueue)
            for name in OUTPUTS:
                self._buffers[name].spoil(self._stream, self._batch)
            graph.launch(self._stream)
            self._stream.synchronize()
        except QtsegError:
            repeats = False
        else:
            repeats = all(np.mean(self._host(name) == before) > 0.5 for name, before in zip(OUTPUTS, wanted, strict=True))
        if graph is not None and not repeats:
            graph.close()
        return graph if repeats else None

    def _host(self, name: str) -> Uint8:
        return self._buffers[name].array[: self._batch]


class _Buffer:
    """One tensor for the largest batch. array: the CPU's side (N, ...). address: what the engine is given."""

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], stack: ExitStack) -> None:
        size = int(np.prod(shape))
        host = cuda.pin(size, mapped=cuda.gpu.integrated)
        stack.callback(host.close)
        self.array = host.array.reshape(shape)
        self.address = host.address
        self._device: DeviceMemory | None = None
        if not cuda.gpu.integrated:
            self._device = cuda.reserve(size)
            stack.callback(self._device.close)
            self.address = self._device.address

    def upload(self, stream: Stream, batch: int) -> None:
        if self._device is not None:
            stream.upload(self._device, self.array[:batch])

    def download(self, stream: Stream, batch: int) -> None:
        if self._device is not None:
            stream.download(self.array[:batch], self._device)

    def spoil(self, stream: Stream, batch: int) -> None:
        """Every byte becomes another one, on both sides. The stream has been waited for."""
        content = self.array[:batch]
        np.subtract(255, content, out=content)
        self.upload(stream, batch)
