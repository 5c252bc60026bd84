"""What happens to the process that builds, and to the one that waits for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qtseg_edge.errors import MissingError, QtsegError
from qtseg_edge.export.builder import BuildOptions, build_plan
from qtseg_edge.export.gpu_probe import l4t_version
from tests.export.builds import RTX, builders_of, built, is_running, silent, written
from tests.export.graphs import residual

ROOT = Path(__file__).parents[2]
FULL = BuildOptions("tensorrt")
pytestmark = pytest.mark.timeout(120)

# A program that builds, says so, and ends as a command does.
PROGRAM = """
import sys
from pathlib import Path
from qtseg_edge.export.builder import BuildOptions, build_plan

def told(done, total=None, note=""):
    print("building", flush=True)

try:
    build_plan(Path(sys.argv[1]), Path(sys.argv[2]), BuildOptions("tensorrt-rtx"), told)
except KeyboardInterrupt:
    sys.exit(130)
"""

# A driver with one GPU, and a TensorRT that runs on it: TensorRT-RTX's own builder, and a runtime that opens everything.
DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDeviceGet(int *device, int index) { *device = 0; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Stand-in GPU", size); return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) { *value = which == 75 ? 8 : which == 76 ? 7 : 1; return 0; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
"""
FULL_TENSORRT = """
import tensorrt_rtx
globals().update({name: value for name, value in vars(tensorrt_rtx).items() if not name.startswith("__")})
__version__ = "10.99.1"

class Runtime:
    def __init__(self, logger): pass
    def deserialize_cuda_engine(self, plan):
        assert plan[:4] == b"vtrt"
        return self
    def create_engine_inspector(self): return self
    def get_engine_information(self, format):
        assert format == LayerInformationFormat.JSON
        return '{"Layers": [{"LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Row major Int8 format"}]}]}'
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("tiny") / "tiny.onnx", residual(size=64))


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules come before the installed ones, for the builder as for this process."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


# The builder dies


@pytest.mark.parametrize(
    ("number", "match"),
    [
        (signal.SIGSEGV, r"^the builder crashed \(SIGSEGV\): "),
        (signal.SIGABRT, r"^the builder crashed \(SIGABRT\): "),
        (signal.SIGKILL, r"^the builder was killed \(SIGKILL\), most likely because memory ran out; .*--workspace smaller: "),
    ],
)
def test_a_builder_that_is_struck_down_is_an_error_and_leaves_nothing(
    tiny: Path, tmp_path: Path, number: signal.Signals, match: str
) -> None:
    struck: list[int] = []

    def strike(done: int, total: int | None = None, note: str = "") -> None:
        if not struck:
            struck.extend(builders_of(os.getpid()))
            os.kill(struck[0], number)

    with pytest.raises(QtsegError, match=match) as caught:
        build_plan(tiny, tmp_path / "a.engine", RTX, strike)
    assert caught.value.exit_code == 1
    assert len(struck) == 1
    assert list(tmp_path.iterdir()) == []
    assert built(tiny, tmp_path)[0].bytes > 0  # and the next build is none the worse


def test_the_last_words_of_a_builder_are_in_the_error(tiny: Path, tmp_path: Path, modules: Path) -> None:
    (modules / "tensorrt_rtx.py").write_text(
        "import os\nprint('noise', flush=True)\nos.write(2, b'first\\nsecond\\n\\n  third   part\\nfourth\\n')\nos.abort()\n"
    )
    with pytest.raises(QtsegError, match=r"^the builder crashed \(SIGABRT\): second \| third part \| fourth$"):
        build_plan(tiny, tmp_path / "a.engine", RTX, silent)
    assert list(tmp_path.iterdir()) == [modules]


def test_a_mistake_in_the_builder_is_one_line(tiny: Path, tmp_path: Path, modules: Path) -> None:
    (modules / "tensorrt_rtx.py").write_text("raise RuntimeError('of another make')\n")
    with pytest.raises(QtsegError, match=r"ended with exit code 1 and without a plan: .*RuntimeError: of another make$"):
        build_plan(tiny, tmp_path / "a.engine", RTX, silent)


def test_a_library_that_does_not_load_is_missing(tiny: Path, tmp_path: Path, modules: Path) -> None:
    (modules / "tensorrt_rtx.py").write_text("raise OSError('libcudart.so.13: not found')\n")
    with pytest.raises(MissingError, match=r"tensorrt-rtx is installed but does not load \(libcudart"):
        build_plan(tiny, tmp_path / "a.engine", RTX, silent)


def test_an_error_of_whoever_shows_progress_ends_the_builder(tiny: Path, tmp_path: Path) -> None:
    def broken(done: int, total: int | None = None, note: str = "") -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build_plan(tiny, tmp_path / "a.engine", RTX, broken)
    assert builders_of(os.getpid()) == []
    assert list(tmp_path.iterdir()) == []


# The one who waits is interrupted, or dies


def started(onnx_path: Path, folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A program in the middle of a build, and the process id of its builder."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(onnx_path), str(folder / "a.engine")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job would ignore it
    )
    assert process.stdout is not None and process.stdout.readline() == "building\n"
    (builder,) = builders_of(process.pid)
    return process, builder


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_ends_the_builder_and_leaves_nothing(exported: Path, tmp_path: Path) -> None:
    process, builder = started(exported, tmp_path)
    os.kill(builder, signal.SIGSTOP)  # it will not end by itself
    try:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, err) == (130, "")
    wait_until(lambda: not is_running(builder))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_builder_ends_with_the_process_that_started_it(exported: Path, tmp_path: Path, number: signal.Signals) -> None:
    process, builder = started(exported, tmp_path)
    process.send_signal(number)
    process.communicate(timeout=30)
    wait_until(lambda: not is_running(builder))
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [0]  # it was not done


# A machine with a GPU, as far as building goes


@pytest.fixture
def machine(tmp_path: Path, modules: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder on a machine with full TensorRT and a GPU, both stand-ins."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (libraries / "driver.c").write_text(DRIVER)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", libraries / "libcuda.so.1", libraries / "driver.c"], check=True)
    (modules / "tensorrt.py").write_text(FULL_TENSORRT)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(libraries), prepend=os.pathsep)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_full_tensorrt_says_which_gpu_it_tuned_for_and_what_the_inspector_found(tiny: Path, tmp_path: Path, machine: Path) -> None:
    report, _ = built(tiny, tmp_path, FULL)
    assert (report.tensorrt, report.gpu, report.gpu_compute_capability, report.cuda) == ("10.99.1", "Stand-in GPU", "8.7", "12.6")
    assert report.inspected == {"INT8": 1}


def test_timings_are_kept_for_each_tensorrt_and_gpu(tiny: Path, tmp_path: Path, machine: Path) -> None:
    built(tiny, tmp_path, FULL)
    kept = machine / "qtseg-edge" / "tensorrt" / "10.99.1-Stand-in-GPU-8.7.timing"
    assert list(kept.parent.iterdir()) == [kept]
    kept.write_bytes(b"damaged" * 9)
    built(tiny, tmp_path, FULL)
    assert b"damaged" not in kept.read_bytes()


def test_timings_are_kept_where_they_are_wanted(tiny: Path, tmp_path: Path, machine: Path) -> None:
    built(tiny, tmp_path, BuildOptions("tensorrt", timing_cache=tmp_path / "mine.timing"))
    assert (tmp_path / "mine.timing").is_file()
    assert not machine.exists()


def test_the_l4t_of_a_jetson_is_read_from_its_release_file(tmp_path: Path) -> None:
    release = tmp_path / "nv_tegra_release"
    assert l4t_version(release) == ""
    release.write_text(
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025\n"
    )
    assert l4t_version(release) == "36.4.3"
