"""What `make test-arm64` asks for and refuses. The run itself takes too long for every change: docs/decisions/0028-arm64.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arm64.inside import TESTS
from tests.arm64.wheels import wanted

ROOT = Path(__file__).parents[2]


def test_what_is_run_exists() -> None:
    assert [name for name in TESTS if not (ROOT / name).exists()] == []


def test_the_wheels_are_the_dependencies_and_what_the_tests_need_and_no_engine() -> None:
    names = {re.split("[<>=!~;]", line)[0].strip() for line in wanted()}
    assert {"numpy", "opencv-python-headless", "typer", "rich", "av", "pytest"} <= names
    assert not names & {"torch", "openvino", "onnxruntime", "tensorrt"}


@pytest.mark.parametrize(("at_least", "code"), [(1, 0), (1000, 1)])
def test_a_run_that_ran_too_little_has_failed(at_least: int, code: int) -> None:
    program = f"""
import sys
from tests.arm64 import inside
inside.TESTS, inside.AT_LEAST = ("tests/test_files.py",), {at_least}
sys.exit(inside.main(["-q"]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("wanted at least 1000 tests to pass" in done.stderr) == (code == 1)


def test_who_is_not_root_is_told_in_one_line() -> None:
    user = {"user": 65534} if os.geteuid() == 0 else {}
    try:
        done = subprocess.run([ROOT / "tests" / "arm64" / "run.sh"], cwd="/", capture_output=True, text=True, timeout=60, **user)
    except PermissionError:
        pytest.skip("nobody may not enter this checkout")
    assert (done.returncode, done.stderr) == (
        3,
        "test-arm64: wants root, to mount and to change the root folder; run: sudo make test-arm64\n",
    )
