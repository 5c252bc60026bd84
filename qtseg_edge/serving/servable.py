"""The model files that can be handed to another server: an .onnx file of `export`, or a TensorRT engine of `build-engine`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.runtime.engine_file import ENGINE_SUFFIX, EngineSidecar, read_plan, read_sidecar
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx
from qtseg_edge.spec import ModelSpec

DEFAULT_LARGEST_BATCH = 8


@dataclass(frozen=True)
class ServableModel:
    """content: the bytes to serve, already checked. batches: smallest, best and largest where any number is taken, else None.

    sidecar: of an engine; None for an .onnx file.
    """

    path: Path
    content: bytes
    spec: ModelSpec
    batches: tuple[int, int, int] | None
    sidecar: EngineSidecar | None

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def images(self) -> int | None:
        """The fixed first dimension of the graph; None where it is open."""
        return None if self.batches else self.spec.batch


def read_servable(path: Path, trust: bool = False) -> ServableModel:
    """trust: take an engine that another user or machine built, whose bytes still must be those of its sidecar.

    Raises UsageError (no such file, another kind, batches that no server can fill), IncompatibleError (not one of ours, or changed).
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return _onnx(path)
    if suffix == ENGINE_SUFFIX:
        return _engine(path, trust)
    raise UsageError(f"{path}: wanted an .onnx file or an engine ({ENGINE_SUFFIX}); make one with: qtseg-edge export {path} -o MODEL.onnx")


def _onnx(path: Path) -> ServableModel:
    spec = spec_from_onnx(path)
    batches = (1, 1, DEFAULT_LARGEST_BATCH) if spec.batch is None else None
    try:
        return ServableModel(path, path.read_bytes(), spec, batches, None)
    except OSError as error:
        raise QtsegError(f"{path}: cannot be read ({error.strerror})") from error


def _engine(path: Path, trust: bool) -> ServableModel:
    sidecar = read_sidecar(path)
    content = read_plan(path, sidecar, trust)
    smallest, _, largest = sidecar.batches
    if sidecar.spec.batch is None and smallest != 1:
        raise UsageError(
            f"{path}: takes {smallest} to {largest} images at once, a server cannot wait for {smallest}; "
            f"build it again: qtseg-edge build-engine MODEL --batch 1:{sidecar.batches[1]}:{largest} -o {path}"
        )
    return ServableModel(path, content, sidecar.spec, sidecar.batches if sidecar.spec.batch is None else None, sidecar)
