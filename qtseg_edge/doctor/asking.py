"""Asks each vendor's package in a child process of its own, several at a time."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from qtseg_edge.doctor.vendors import ANSWER

_MODULES = {
    "opencv": "cv2",
    "av": "av",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "torch": "torch",
    "onnx": "onnx",
    "cuda-bindings": "cuda.bindings",
    "pycuda": "pycuda",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
}
_NO_PACKAGE = ("cuda-driver",)  # a library of the system
_AT_ONCE = 4
_SECONDS = 60.0  # a cold start of torch from a slow card takes half of it
# The child finds what this process finds, and nothing else: no file of the current folder takes a package's place.
_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from qtseg_edge.doctor.vendors import answer; answer(sys.argv[2])"


@dataclass(frozen=True)
class Answer:
    """facts: what an `ok` package said. reason: why another did not."""

    state: Literal["ok", "missing", "broken"]
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def ok(self) -> bool:
        return self.state == "ok"


def ask_all() -> dict[str, Answer]:
    """Every package that `doctor` knows, by name. Never raises for what is wrong with one."""
    names = [*_MODULES, *_NO_PACKAGE]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(names, pool.map(_ask, names), strict=True))


def _ask(name: str) -> Answer:
    if name in _MODULES and not _is_installed(_MODULES[name]):
        return Answer("missing", reason="not installed")
    command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), name]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer("broken", reason=f"does not load within {_SECONDS:g} s")
    said = [line.removeprefix(ANSWER) for line in done.stdout.splitlines() if line.startswith(ANSWER)]
    return _understood(json.loads(said[-1])) if said else Answer("broken", reason=_how_it_ended(done.returncode))


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
    except (ImportError, ValueError):
        return True  # something is there; asking it will tell what is wrong


def _understood(given: dict[str, Any]) -> Answer:
    if "facts" in given:
        return Answer("ok", given["facts"])
    return Answer("missing", reason=given["missing"]) if "missing" in given else Answer("broken", reason=given["broken"])


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ends Python when it is loaded (exit code {code})"
    names = {number.value: number.name for number in signal.Signals}
    return f"crashes Python when it is loaded ({names.get(-code, f'signal {-code}')})"
