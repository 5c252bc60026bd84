"""Runs the runtime's tests inside the arm64 root of `run.sh`, and fails when fewer ran than must."""

from __future__ import annotations

import platform
import sys

import pytest

# What a Jetson runs without an engine for networks: sources, hand-offs, pipeline, overlay, outputs, commands, on the fake backend.
# Tests in here that want more (torch, OpenVINO, ONNX Runtime, a server, a browser, a Debian tool) skip themselves with a reason.
TESTS = (
    "tests/runtime",
    "tests/test_cli.py",
    "tests/test_data.py",
    "tests/test_doctor.py",
    "tests/test_files.py",
    "tests/test_imports.py",
    "tests/jetson",
    "tests/test_metrics.py",
    "tests/test_run_bad_input.py",
    "tests/test_run_live.py",
    "tests/test_spec.py",
    "tests/test_transforms.py",
)
AT_LEAST = 1500
TIMEOUT_S = 1200  # a hang is a failure here too


class Counting:
    """How many tests passed."""

    def __init__(self) -> None:
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed


def main(arguments: list[str]) -> int:
    """arguments: of pytest; a path takes the place of `TESTS`, and the count is not asked for then. The exit code: pytest's, or 1."""
    counting = Counting()
    print(f"Python {platform.python_version()} on {platform.machine()}", flush=True)
    chosen = any(argument.startswith("tests/") for argument in arguments)
    options = ["-p", "no:cacheprovider", "-m", "not slow and not gpu and not timing", "-o", f"timeout={TIMEOUT_S}"]
    code = int(pytest.main([*options, *arguments, *(() if chosen else TESTS)], plugins=[counting]))
    if code == 0 and not chosen and counting.passed < AT_LEAST:
        print(f"test-arm64: wanted at least {AT_LEAST} tests to pass, {counting.passed} did; see which were skipped: -rs", file=sys.stderr)
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
