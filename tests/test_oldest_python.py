"""Nothing needs more than the oldest Python that pyproject.toml promises, which is JetPack 6's: told by vermin, from the source alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Names that Python 2 had, as members (`torch.long`): taken for what they were there, they hide whatever else their file needs.
NOT_PYTHON_2 = ("file", "long")

pytest.importorskip("vermin", reason="vermin is not installed; get it with: pip install vermin")


def complaints(*paths: Path, excluded: tuple[str, ...] = NOT_PYTHON_2) -> str:
    """What vermin has against the oldest Python, nothing where it is content."""
    oldest = re.findall(r'^requires-python = ">=(3\.\d+),', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    options = [f"--target={oldest[0]}-", "--no-tips", "--violations", *(word for name in excluded for word in ("--exclude", name))]
    command = [sys.executable, "-c", "import vermin; vermin.main()", *options, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    hidden = "File with incompatible versions" in done.stdout  # its exit code is 0 then
    return done.stdout + done.stderr if done.returncode or hidden else ""


def test_the_oldest_python_can_run_everything() -> None:
    assert complaints(*(ROOT / name for name in ("qtseg_edge", "tests", "deploy", "docs", "models", "samples", "cli.py"))) == ""


@pytest.mark.parametrize("line", ["import tomllib", "from typing import Self", "from enum import StrEnum", "raise ExceptionGroup('', [])"])
def test_what_is_newer_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "newer.py").write_text(f"from __future__ import annotations\n{line}\n", encoding="utf-8")
    assert "3.11" in complaints(tmp_path)


def test_a_name_that_hides_what_its_file_needs_is_found(tmp_path: Path) -> None:
    (tmp_path / "hiding.py").write_text("import tomllib\n\ndef integers(tensors):\n    return tensors[0].long()\n", encoding="utf-8")
    assert "File with incompatible versions" in complaints(tmp_path, excluded=())
    assert "'tomllib' module" in complaints(tmp_path)
