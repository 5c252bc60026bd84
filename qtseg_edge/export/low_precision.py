"""A float32 graph to FP16 or INT8: ranges from calibration images, the precision into the graph, and what the gate asks on a CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from qtseg_edge import __version__
from qtseg_edge.calibration import CalibrationImage, CalibrationSet
from qtseg_edge.console import OnProgress, Steps
from qtseg_edge.export.gate import GateImage, GateResult, compare
from qtseg_edge.export.precision.emulation import emulated
from qtseg_edge.export.precision.graph import as_float32
from qtseg_edge.export.precision.histogram import CONSTANTS, Method
from qtseg_edge.export.precision.int8 import quantisable_nodes
from qtseg_edge.export.precision.lower import lowered, with_note
from qtseg_edge.export.precision.ranges import Ranges, activation_ranges, cached_ranges, int8_ranges, largest_magnitudes
from qtseg_edge.export.precision_note import PRECISION_KEY, PrecisionNote
from qtseg_edge.export.sensitivity import LayerCost, layer_costs
from qtseg_edge.runtime.backend import Backend, Masks
from qtseg_edge.runtime.engine_file import Precision
from qtseg_edge.runtime.onnx_metadata import read_metadata
from qtseg_edge.runtime.onnxruntime import OnnxRuntimeBackend
from qtseg_edge.spec import ModelSpec

Uint8 = NDArray[np.uint8]
_IMAGES_FOR_MAGNITUDES = 16
_IMAGES_FOR_SENSITIVITY = 8


@dataclass(frozen=True)
class Calibrated:
    """A float32 graph with its calibration set: all that FP16 and INT8 versions of it are made from. steps: opens a progress bar."""

    model: ModelProto
    spec: ModelSpec
    images: CalibrationSet
    method: Method
    steps: Steps

    def lowered(self, precision: Precision, exclude: tuple[str, ...] = ()) -> ModelProto:
        """The graph in `precision`. Raises UsageError for an exclusion that fits no node."""
        scales = self._scales() if precision == "int8" else {}
        return lowered(self.model, precision, largest_magnitudes(self._magnitudes()), scales, exclude)

    def layer_costs(self, exclude: tuple[str, ...] = ()) -> tuple[LayerCost, ...]:
        """Of every convolution that is not excluded, in INT8 by itself, on held-out images."""
        frames = list(self._frames(_evenly(self.images.held_out, _IMAGES_FOR_SENSITIVITY)))
        with self.steps("sensitivity", "layers", None) as advance:
            return layer_costs(self.model, self._scales(), frames, exclude, advance)

    def _magnitudes(self) -> Ranges:
        chosen = _evenly(self.images.calibrating, _IMAGES_FOR_MAGNITUDES)
        return self._cached("magnitudes", len(chosen), lambda plain, advance: activation_ranges(plain, self._frames(chosen), advance))

    def _scales(self) -> Ranges:
        images = self.images.calibrating

        def measured(plain: ModelProto, advance: OnProgress) -> Ranges:
            return int8_ranges(plain, self._frames(images), quantisable_nodes(plain), self.method, advance)

        return self._cached(self.method, len(images), measured)

    def _cached(self, what: str, images: int, measure: Callable[[ModelProto, OnProgress], Ranges]) -> Ranges:
        plain = as_float32(self.model)

        def measured() -> Ranges:
            with self.steps(what, "images", images) as advance:
                return measure(plain, advance)

        key = {
            "graph": hashlib.sha256(plain.graph.SerializeToString(deterministic=True)).hexdigest(),
            "manifest": self.images.manifest_sha256,
            "method": [what, *CONSTANTS],
            "images": images,
            "versions": [__version__, onnxruntime.__version__],
        }
        return cached_ranges(key, measured)

    def _frames(self, images: tuple[CalibrationImage, ...]) -> Iterator[Uint8]:
        """As the graph takes them: where its batch is fixed, one image as often as it wants."""
        for frame in self.images.frames(self.spec, images):
            yield np.repeat(frame, self.spec.batch or 1, axis=0)


def judged_on_cpu(
    reference: Path, candidate: Path, folder: Path, images: Iterator[GateImage], data: str, limit: float | None, on_image: OnProgress
) -> GateResult:
    """The gate without a GPU: `candidate` with every rounding it would have there, run by ONNX Runtime. folder: for temporary files."""
    path = folder / "emulated.onnx"
    onnx.save(emulated(onnx.load(candidate)), path)
    with OnnxRuntimeBackend(reference) as first, OnnxRuntimeBackend(path) as second:
        second.name = "onnxruntime, half precision emulated"
        return compare(one_image(first), one_image(second), images, data, limit, on_image)


def note_gate(path: Path, gate: dict[str, Any]) -> None:
    """Into the note of a graph on disk."""
    note = PrecisionNote.from_json(read_metadata(path)[PRECISION_KEY])
    more = {"exclude": note.exclude, "calibration": note.calibration, "gate": gate}
    onnx.save(with_note(onnx.load(path), note.precision, note.model_sha256, **more)[0], path)


def one_image(backend: Backend, least: int = 1) -> Backend:
    """A backend of batch 1 from one of any fixed batch, or from one of dynamic batch that takes `least` images or more."""
    batch = backend.spec.batch or least
    return backend if batch == 1 else _FirstOfBatch(backend, batch)


class _FirstOfBatch(Backend):
    def __init__(self, backend: Backend, batch: int) -> None:
        self.name = backend.name
        self.spec = ModelSpec(backend.spec.card, backend.spec.size_hw, 1, backend.spec.checkpoint_sha256)
        self._backend, self._batch = backend, batch

    def _infer(self, image: Uint8) -> Masks:
        mask, confidence = self._backend.infer(np.repeat(image, self._batch, axis=0))
        return Masks(mask[:1], confidence[:1])


def _evenly(images: tuple[CalibrationImage, ...], count: int) -> tuple[CalibrationImage, ...]:
    picked = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
    return tuple(images[index] for index in picked)
