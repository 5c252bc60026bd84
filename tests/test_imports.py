"""The runtime must start on a board that has neither torch nor ONNX tooling: proven in a fresh interpreter that cannot import them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "onnx", "onnxsim", "onnxscript", "onnxruntime", "openvino", "av", "kornia", "safetensors", "matplotlib")
HEAVY += ("tensorrt", "tensorrt_rtx", "cuda", "pycuda", "starlette", "uvicorn", "websockets", "h11", "prometheus_client")
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))\n"
ROOT = Path(__file__).parents[1]


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT)


LIGHT = (
    "",
    ".runtime",
    ".runtime.web",
    ".cli",
    ".evaluate",
    ".report",
    ".benchmark.run",
    ".benchmark.worker",
    ".calibration",
    ".doctor",
    ".inspection",
    ".serving.deepstream",
    ".serving.triton_repository",
    ".export.engine",
    ".export.builder",
)


@pytest.mark.parametrize("module", [f"qtseg_edge{name}" for name in LIGHT])
def test_imports_without_any_heavy_package(module: str) -> None:
    result = python(BLOCK + f"import {module}")
    assert result.returncode == 0, result.stderr


def test_help_and_run_work_without_any_heavy_package(tmp_path: Path) -> None:
    code = BLOCK + "from qtseg_edge.cli import app; app(sys.argv[1:])"
    shown = python(code, "--help")
    assert shown.returncode == 0 and "not a medical device" in " ".join(shown.stdout.split()).lower(), shown.stderr
    frames = ROOT / "qtseg_edge" / "assets" / "frames"
    ran = python(code, "run", "--source", str(frames), "--device", "fake", "--output", f"{tmp_path}/masks/")
    assert ran.returncode == 0, ran.stderr
    assert len(list((tmp_path / "masks").glob("*.png"))) == 6


def test_run_on_a_real_backend_loads_neither_torch_nor_onnx_tools(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the run is on OpenVINO")
    code = """
import sys
from qtseg_edge.cli import app
try:
    app(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
loaded = {"torch", "onnx", "onnxsim", "onnxscript", "kornia", "safetensors"} & set(sys.modules)
assert not loaded, loaded
"""
    frames = ROOT / "qtseg_edge" / "assets" / "frames"
    ran = python(code, "run", "--source", str(frames), "--output", f"{tmp_path}/masks/")
    assert ran.returncode == 0, ran.stderr


def test_lint_forbids_module_level_imports_of_heavy_packages(tmp_path: Path) -> None:
    pytest.importorskip("ruff", reason="it is the linter")
    offender = tmp_path / "offender.py"
    offender.write_text("import torch\nimport onnx\n\nprint(torch, onnx)\n")
    config = str(ROOT / "pyproject.toml")
    result = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--config", config, "--no-cache", str(offender)], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stdout.count("TID253") == 2


def test_the_command_line_starts_without_opencv() -> None:
    """It takes half a second, and `main` sets how much it says before it is imported."""
    result = python("import sys, qtseg_edge.cli; assert 'cv2' not in sys.modules")
    assert result.returncode == 0, result.stderr
