"""Which backend `--device auto` takes for each kind of model file, asked of the code that takes it, and whether it works here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qtseg_edge.doctor.asking import Answer
from qtseg_edge.errors import QtsegError

_KINDS = {".onnx": "an .onnx file", ".safetensors": "a checkpoint", ".engine": "an engine"}
_FOR_ONNX = ("openvino", "onnxruntime")
_LIBRARIES = ("tensorrt", "tensorrt-rtx")
_CUDA_PACKAGES = ("cuda-bindings", "pycuda")


@dataclass(frozen=True)
class Choice:
    """device: what `auto` takes for this kind of model, "" where it takes none. works: it runs there. why: in words."""

    model: str
    device: str
    works: bool
    why: str


def auto_choices(answers: Mapping[str, Answer]) -> list[Choice]:
    """For an .onnx file, a checkpoint and an engine. answers: of `ask_all`."""
    if not answers["opencv"].ok:
        return [Choice(kind, "", False, "OpenCV does not load, and every frame goes through it") for kind in _KINDS.values()]
    return [_choice(suffix, kind, answers) for suffix, kind in _KINDS.items()]


def can_run(answers: Mapping[str, Answer]) -> bool:
    """Some kind of model runs here on some device, if perhaps not on the one that `auto` takes."""
    any_package = any(answers[name].ok for name in (*_FOR_ONNX, "torch"))
    return answers["opencv"].ok and (any_package or not _lacking_for_engines(answers))


def _choice(suffix: str, kind: str, answers: Mapping[str, Answer]) -> Choice:
    from qtseg_edge.runtime.devices import auto_device  # not before OpenCV is known to load: the runtime needs it

    try:
        device = auto_device(suffix)
    except QtsegError as error:
        return Choice(kind, "", False, str(error))
    if device == "tensorrt":
        return _engine_choice(kind, answers)
    answer = answers[device]
    others = [name for name in _FOR_ONNX if suffix == ".onnx" and name != device and answers[name].ok]
    if answer.ok:
        why = f"faster than {others[0]}, which is installed too" if others else "the only one that opens it here"
        return Choice(kind, device, True, why)
    reason = "not installed" if answer.state == "missing" else "installed, but does not load"
    return Choice(kind, device, False, f"{reason}{f'; --device {others[0]} works' if others else ''}")


def _engine_choice(kind: str, answers: Mapping[str, Answer]) -> Choice:
    lacking = _lacking_for_engines(answers)
    if lacking:
        return Choice(kind, "tensorrt", False, f"lacks {', '.join(lacking)}")
    libraries = " and ".join(f"{name} {answers[name].facts['version']}" for name in _usable_libraries(answers))
    return Choice(kind, "tensorrt", True, f"{libraries} on {gpus(answers)[0]['name']}; it must have been built for these")


def gpus(answers: Mapping[str, Answer]) -> list[dict[str, Any]]:
    """Those that the CUDA driver shows: name, compute_capability, bytes and integrated of each."""
    found: list[dict[str, Any]] = answers["cuda-driver"].facts.get("gpus", [])
    return found


def _lacking_for_engines(answers: Mapping[str, Answer]) -> list[str]:
    needs = {
        "a GPU": bool(gpus(answers)),
        "a TensorRT for it" if gpus(answers) else "TensorRT": bool(_usable_libraries(answers)),
        "cuda-bindings or pycuda": any(answers[name].ok for name in _CUDA_PACKAGES),
    }
    return [what for what, there in needs.items() if not there]


def _usable_libraries(answers: Mapping[str, Answer]) -> list[str]:
    """Those that are installed and know the GPU: TensorRT-RTX does not know all."""
    from qtseg_edge.runtime.tensorrt_library import RTX_COMPUTE_CAPABILITIES

    known = {"tensorrt-rtx": RTX_COMPUTE_CAPABILITIES}
    capability = gpus(answers)[0]["compute_capability"] if gpus(answers) else None
    return [name for name in _LIBRARIES if answers[name].ok and (not capability or capability in known.get(name, [capability]))]
