"""Nothing is loaded that is not used, and a start takes no longer than docs/decisions/0030-start-up.md says."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VIDEO = ROOT / "samples" / "colonoscopy.mp4"
RUN = ("run", "--video", str(VIDEO), "--max-frames", "2", "-o", "null://", "--json")
# Prints, behind the command's own output, which modules it has loaded.
COMMAND = """
import sys
from qtseg_edge.cli import main
sys.argv[0] = "qtseg-edge"
try:
    main()
finally:
    print("modules:", *sys.modules, file=sys.stderr)
"""
# Of a run that reads a file, writes none and prints JSON. Parts of openvino, PyAV and the standard library that they do not need either.
# fmt: off
UNUSED_BY_RUN = {
    "torch", "onnx", "onnxruntime", "onnxsim", "transformers", "pydantic", "matplotlib", "pandas", "PIL", "scipy", "starlette", "uvicorn",
    "websockets", "prometheus_client", "tensorrt", "tensorrt_rtx", "cuda", "pycuda", "rich", "openvino_telemetry", "openvino.tools.ovc",
    "qtseg_edge.model", "qtseg_edge.training", "qtseg_edge.export", "qtseg_edge.benchmark", "qtseg_edge.calibration", "qtseg_edge.evaluate",
    "qtseg_edge.doctor", "qtseg_edge.inspection", "qtseg_edge.runtime.web.server", "qtseg_edge.runtime.sinks.video_writer",
    "qtseg_edge.runtime.sources.stream_reader", "asyncio", "unittest", "ssl", "http.client", "urllib.request", "email",
    "importlib.metadata", "multiprocessing.pool",
}
# fmt: on
UNUSED_BY_HELP = {"numpy", "cv2", "av", "openvino", "qtseg_edge.runtime", "qtseg_edge.report", *UNUSED_BY_RUN}
PRINTS_HELP = {"rich", "email", "importlib.metadata"}  # rich, which asks for Pygments' plugins


def loaded(*arguments: str, cache: Path) -> set[str]:
    done = subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, timeout=100, env=environment(cache))
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("modules: ")[2].split())


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",)])
def test_help_loads_nothing_of_what_the_commands_use(arguments: tuple[str, ...], tmp_path: Path) -> None:
    modules = loaded(*arguments, cache=tmp_path)
    assert not modules & (UNUSED_BY_HELP - PRINTS_HELP)


def test_a_run_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the run is on OpenVINO")
    modules = loaded(*RUN, cache=tmp_path)
    assert {"cv2", "av", "openvino"} <= modules
    assert not modules & UNUSED_BY_RUN


def test_other_programs_find_openvinos_converter_where_it_was() -> None:
    """It is left out of this package's import alone."""
    pytest.importorskip("openvino", reason="it is imported")
    code = """
import importlib.util, sys
from qtseg_edge.runtime.openvino_library import openvino
assert "openvino.tools.ovc" not in sys.modules
assert importlib.util.find_spec("openvino.tools.ovc") is not None
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_report_tells_when_the_first_result_came(tmp_path: Path) -> None:
    started = time.perf_counter()
    done = run_command(*RUN, "--device", "fake", cache=tmp_path)
    seconds = json.loads(done.stdout)["first_result_seconds"]
    assert 0.05 < seconds < time.perf_counter() - started
    shown = run_command(*RUN[:-1], "--device", "fake", cache=tmp_path).stdout
    assert "(first result after " in shown.splitlines()[0]


def run_command(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from qtseg_edge.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=True, env=environment(cache))


# Seconds of processor time, which a busy machine stretches less than the clock: two to three times what the page measured.
LIMITS = {"help": (("--help",), 0.6), "run help": (("run", "--help"), 0.6), "run": (RUN, 3.0)}


@pytest.mark.timing
@pytest.mark.parametrize("start", LIMITS)
def test_a_start_takes_no_longer_than_it_should(start: str, tmp_path: Path) -> None:
    arguments, limit = LIMITS[start]
    if start == "run":
        pytest.importorskip("openvino", reason="the run is on OpenVINO")
        run_command(*arguments, cache=tmp_path)  # fills the cache
    assert any(processor_seconds(*arguments, cache=tmp_path) < limit for _ in range(5))


def processor_seconds(*arguments: str, cache: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_command(*arguments, cache=cache)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
