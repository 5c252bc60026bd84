"""The rows about packages and drivers: what each said of itself, and what to type where it is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtseg_edge.doctor.asking import Answer
from qtseg_edge.doctor.choice import gpus
from qtseg_edge.doctor.findings import Finding

_LABELS = {
    "opencv": "OpenCV",
    "av": "PyAV",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "torch": "PyTorch",
    "onnx": "onnx",
    "cuda-driver": "CUDA driver",
    "cuda-bindings": "cuda-bindings",
    "pycuda": "PyCUDA",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT-RTX",
}
_EXTRAS = {"av": "cpu", "onnxruntime": "cpu", "openvino": "cpu", "torch": "train", "onnx": "export", "cuda-bindings": "cuda"}
_EXTRAS |= {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx"}
_CURES = {
    "opencv": "pip install opencv-python-headless",
    "pycuda": "pip install pycuda, which needs the CUDA toolkit",
    "cuda-driver": "install NVIDIA's driver, then look with: nvidia-smi",
    **{name: f"pip install 'qtseg-edge[{extra}]'" for name, extra in _EXTRAS.items()},
}
_JETPACKS_OPENCV = "sudo apt install libopencv-python, or where apt has none: sudo apt install python3-opencv"
# Never the package's own extras: with them pip takes a wheel of OpenCV too, which hides JetPack's.
_CURES_ON_JETSON = {
    "opencv": _JETPACKS_OPENCV,
    "av": "pip install av",
    "onnxruntime": "pip install onnxruntime",
    "openvino": "pip install openvino",
    "cuda-bindings": "pip install 'cuda-bindings>=12.8,<13' with JetPack 6, 'cuda-bindings>=13,<14' with JetPack 7",
    "cuda-driver": "it comes with JetPack; a container is started with: docker run --runtime nvidia",
    "tensorrt": "sudo apt install python3-libnvinfer; a virtual environment is made with --system-site-packages to see it",
}
_GSTREAMER_CURE = "no wheel of OpenCV has it: build OpenCV with -DWITH_GSTREAMER=ON"
_GSTREAMER_CURE_ON_JETSON = f"JetPack's OpenCV has it: pip uninstall opencv-python-headless, then: {_JETPACKS_OPENCV}"


def software_findings(answers: Mapping[str, Answer], is_jetson: bool) -> list[Finding]:
    """answers: of `ask_all`."""
    cures = {**_CURES, **(_CURES_ON_JETSON if is_jetson else {})}
    findings = []
    for name, label in _LABELS.items():
        findings.append(_finding(name, label, answers, cures[name], is_jetson))
        if name == "opencv" and answers[name].ok:
            findings += _video_findings(answers[name].facts, cures["opencv"], is_jetson)
        if name == "cuda-driver":
            findings.append(_gpu_finding(answers))
    return findings


def _finding(name: str, label: str, answers: Mapping[str, Answer], cure: str, is_jetson: bool) -> Finding:
    answer = answers[name]
    if answer.ok:
        return Finding(label, "ok", _TOLD.get(name, _version)(answer.facts))
    unneeded = _unneeded(name, answers, is_jetson) if answer.state == "missing" else ""
    if unneeded:
        return Finding(label, "none", unneeded)
    return Finding(label, answer.state, answer.reason, cure)


def _unneeded(name: str, answers: Mapping[str, Answer], is_jetson: bool) -> str:
    """Why its absence is no loss; "" where it is one."""
    twins = {"cuda-bindings": "pycuda", "pycuda": "cuda-bindings"}
    if name in twins and answers[twins[name]].ok:
        return f"not installed, and not needed beside {_LABELS[twins[name]]}"
    return "there is none for Jetson" if name == "tensorrt-rtx" and is_jetson else ""


def _video_findings(facts: dict[str, Any], opencv: str, is_jetson: bool) -> list[Finding]:
    """opencv: what to type to get it."""
    cures = {"FFmpeg": opencv, "GStreamer": _GSTREAMER_CURE_ON_JETSON if is_jetson else _GSTREAMER_CURE}
    findings = []
    for name, cure in cures.items():
        built = facts[name.lower()]
        has = built.startswith("YES")
        findings.append(Finding(f"OpenCV {name}", "ok" if has else "missing", built or "not named in its build", "" if has else cure))
    return findings


def _gpu_finding(answers: Mapping[str, Answer]) -> Finding:
    found = "; ".join(
        f"{gpu['name']}, compute capability {gpu['compute_capability']}, {gpu['bytes'] / (1 << 30):.1f} GiB"
        f"{' shared with the CPU' if gpu['integrated'] else ''}"
        for gpu in gpus(answers)
    )
    return Finding("GPU", "ok", found) if found else Finding("GPU", "missing", "none that CUDA shows")


def _version(facts: dict[str, Any]) -> str:
    return str(facts["version"])


_TOLD: dict[str, Callable[[dict[str, Any]], str]] = {
    "onnxruntime": lambda facts: f"{facts['version']}: {', '.join(facts['providers'])}",
    "openvino": lambda facts: f"{facts['version']}: {', '.join(facts['devices'])}{', with bf16' if facts['bf16'] else ', without bf16'}",
    "torch": lambda facts: f"{facts['version']}, {'with' if facts['cuda'] else 'without'} CUDA",
    "cuda-driver": lambda facts: f"for CUDA {facts['version']} and older",
}
