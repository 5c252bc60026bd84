"""What users install: the wheel, from another folder, with the model inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in a folder of its own."""
    built = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(built), str(ROOT)]
    subprocess.run(command, check=True, timeout=100)
    with zipfile.ZipFile(next(built.glob("qtseg_edge-*.whl"))) as wheel:
        wheel.extractall(built / "site")
    return built / "site"


def test_the_wheel_carries_model_frames_and_credit_but_no_tests(installed: Path) -> None:
    names = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert {"qtseg_edge/assets/kvasir-seg-polyp.onnx", "qtseg_edge/assets/README.md", "qtseg_edge/cli.py"} <= names
    assert "qtseg_edge/assets/calibration/manifest.json" in names
    assert {f"qtseg_edge/runtime/web/static/{name}" for name in ("index.html", "login.html", "app.js", "style.css", "icon.svg")} <= names
    assert not [name for name in names if name.startswith(("tests", "samples", "models"))]


def test_run_needs_no_model_from_any_folder(installed: Path, tmp_path: Path) -> None:
    script = f"import qtseg_edge.cli as cli; assert cli.__file__.startswith({str(installed)!r}); cli.app()"
    image = sorted((installed / "qtseg_edge" / "assets" / "frames").glob("*.jpg"))[2]
    command = [sys.executable, "-c", script, "run", "--source", str(image), "-o", "out.png", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["model"] == "kvasir-seg-polyp"
    assert report["foreground_frames"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_the_command_line_of_a_checkout_runs_without_installing() -> None:
    result = subprocess.run([sys.executable, str(ROOT / "cli.py"), "--version"], capture_output=True, text=True, timeout=60)
    assert result.stdout.startswith("qtseg-edge "), result.stderr
