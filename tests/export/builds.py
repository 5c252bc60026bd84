"""Small graphs in files, and the processes that build them."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from onnx import ModelProto, helper

from qtseg_edge.export.builder import BuildOptions, BuiltPlan, build_plan
from qtseg_edge.spec import SPEC_KEY, ModelCard, ModelSpec

CARD = ModelCard("tiny", ("background", "polyp"), ((0, 0, 0), (0, 200, 120)), (64, 64), "scale")
RTX = BuildOptions("tensorrt-rtx")


def written(path: Path, model: ModelProto, batch: int | None = 1) -> Path:
    """With the description of a model for 64x64."""
    helper.set_model_props(model, {SPEC_KEY: ModelSpec(CARD, (64, 64), batch).to_json()})
    onnx.save(model, path)
    return path


def silent(done: int, total: int | None = None, note: str = "") -> None: ...


def built(onnx_path: Path, folder: Path, options: BuildOptions = RTX) -> tuple[BuiltPlan, bytes]:
    """The report and the plan."""
    path = folder / "a.engine"
    report = build_plan(onnx_path, path, options, silent)
    return report, path.read_bytes()


def builders_of(parent: int) -> list[int]:
    """The process ids of its children that run modules of the package: no browser that another test left open is one."""
    running = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if is_running(pid)]
    return [pid for pid in running if _status(pid)[1] == str(parent) and "qtseg_edge." in _read(pid, "cmdline")]


def is_running(pid: int) -> bool:
    """A process that ended and that nobody has waited for does not."""
    return _status(pid)[0] not in ("Z", "X", "")


def _status(pid: int) -> list[str]:
    """State and parent."""
    return _read(pid, "stat").rpartition(")")[2].split()[:2] or ["", ""]


def _read(pid: int, name: str) -> str:
    """Empty where the process has gone meanwhile."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
