"""From a model file and `--device` to an open backend."""

from __future__ import annotations

import importlib.util
from importlib import resources
from pathlib import Path

from qtseg_edge.errors import MissingError, QtsegError, UsageError
from qtseg_edge.runtime.backend import Backend
from qtseg_edge.runtime.engine_file import ENGINE_SUFFIX, read_sidecar
from qtseg_edge.runtime.fake import FakeBackend
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx

DEVICES = ("auto", "tensorrt", "openvino", "openvino:f32", "openvino:bf16", "onnxruntime", "torch", "fake")
CHECKPOINT_SUFFIXES = frozenset({".safetensors", ".pt", ".pth"})
_EXTRA = {"openvino": "cpu", "onnxruntime": "cpu", "torch": "train"}
# Fastest first: docs/decisions/0004-device-auto.md.
_AUTO = ("openvino", "onnxruntime")


def default_model() -> Path:
    """The polyp model that comes with the package."""
    path = Path(str(resources.files("qtseg_edge") / "assets" / "kvasir-seg-polyp.onnx"))
    if not path.is_file():
        raise UsageError("this installation carries no default model; give one with --model")
    return path


def open_backend(model: Path | None = None, device: str = "auto", *, trust: bool = False, cuda_driver: str = "auto") -> Backend:
    """Open `model` (the built-in one when None) on `device`. Use it in a `with` block.

    An .onnx file runs on `openvino` and `onnxruntime`, a checkpoint on `torch`, an .engine file on `tensorrt`; `auto` takes the fastest
    that is installed. Of engines only: trust opens one that another user or machine built; cuda_driver is one of
    `cuda.drivers.CUDA_DRIVERS`.
    Raises UsageError (unknown device, or one that cannot open this kind of file), MissingError (not installed or not on
    this machine), IncompatibleError (the file).
    """
    if device not in DEVICES:
        raise UsageError(f"--device: wanted one of {', '.join(DEVICES)}; got {device!r}")
    if device == "fake":
        return FakeBackend(None if model is None else read_sidecar(model).spec if _is_engine(model) else spec_from_onnx(model))
    path = model or default_model()
    if _is_engine(path) or device == "tensorrt":
        return _open_engine(path, device, trust, cuda_driver)
    is_checkpoint = path.suffix.lower() in CHECKPOINT_SUFFIXES
    if not path.is_file():
        raise UsageError(f"{path}: no such model; make one with: qtseg-edge export CHECKPOINT -o {path.with_suffix('.onnx')}")
    if device == "auto":
        device = auto_device(path.suffix)
    if is_checkpoint != (device == "torch"):
        kind = "a checkpoint (.safetensors or .pt)" if device == "torch" else "an .onnx file"
        raise UsageError(f"--device {device} opens {kind}, got {path.name}; convert with: qtseg-edge export CHECKPOINT -o MODEL.onnx")
    return _open(path, device)


def auto_device(suffix: str) -> str:
    """What `auto` takes for a file of this kind. Raises MissingError where nothing that opens it is installed."""
    if suffix.lower() == ENGINE_SUFFIX:
        return "tensorrt"
    return "torch" if suffix.lower() in CHECKPOINT_SUFFIXES else _first_installed()


def _open_engine(path: Path, device: str, trust: bool, cuda_driver: str) -> Backend:
    if not _is_engine(path):
        command = f"qtseg-edge build-engine {path} -o {path.with_suffix(ENGINE_SUFFIX).name}"
        raise UsageError(f"--device tensorrt opens an {ENGINE_SUFFIX} file, got {path.name}; build one with: {command}")
    if device not in ("auto", "tensorrt"):
        raise UsageError(f"--device {device} opens no {ENGINE_SUFFIX} file, got {path.name}; open it with --device tensorrt")
    from qtseg_edge.runtime.tensorrt import TensorRtBackend

    return TensorRtBackend(path, trust, cuda_driver)


def _is_engine(path: Path) -> bool:
    return path.suffix.lower() == ENGINE_SUFFIX


def _open(path: Path, device: str) -> Backend:
    engine, _, precision = device.partition(":")
    if not _installed(engine):
        raise MissingError(f"--device {device}: {engine} is not installed; get it with: pip install 'qtseg-edge[{_EXTRA[engine]}]'")
    try:
        return _loaded(path, engine, precision)
    except ImportError as error:
        raise MissingError(f"--device {device}: {engine} is installed but does not load ({error})") from error


def _loaded(path: Path, engine: str, precision: str) -> Backend:
    if engine == "openvino":
        from qtseg_edge.runtime.openvino import OpenVinoBackend

        return OpenVinoBackend(path, "bf16" if precision == "bf16" else "f32" if precision == "f32" else None)
    if engine == "onnxruntime":
        from qtseg_edge.runtime.onnxruntime import OnnxRuntimeBackend

        return OnnxRuntimeBackend(path)
    from qtseg_edge.runtime.torch import TorchBackend

    return TorchBackend(path)


def _first_installed() -> str:
    for engine in _AUTO:
        if _installed(engine):
            return engine
    raise MissingError("no inference engine is installed; get one with: pip install 'qtseg-edge[cpu]'")


def _installed(engine: str) -> bool:
    try:
        return importlib.util.find_spec(engine) is not None
    except (ImportError, ValueError) as error:
        raise QtsegError(f"{engine}: its installation is broken ({error})") from error
