"""What every CUDA driver package must do: on a real GPU with `pytest -m gpu`, by default on a stand-in for one behind our wrappers."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qtseg_edge.errors import MissingError, UsageError
from qtseg_edge.runtime.cuda import drivers
from qtseg_edge.runtime.cuda.contract import Cuda, CudaError, DeviceMemory, HostMemory
from qtseg_edge.runtime.cuda.drivers import open_cuda
from tests.runtime.cuda_machine import Machine, install_bindings, install_pycuda

ROOT = Path(__file__).parents[2]
SIZE = 1000
INSTALL = {"cuda-bindings": install_bindings, "pycuda": install_pycuda}
MODULES = {"cuda-bindings": "cuda.bindings", "pycuda": "pycuda"}


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture(autouse=True)
def nothing_is_open() -> Iterator[None]:
    drivers._opened.cache_clear()
    yield
    drivers._opened.cache_clear()


@pytest.fixture(
    params=[*((name, False) for name in INSTALL), *(pytest.param((name, True), marks=pytest.mark.gpu) for name in INSTALL)],
    ids=lambda given: f"{given[0]} {'real' if given[1] else 'stand-in'}",
)
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, machine: Machine) -> Iterator[Cuda]:
    name, real = request.param
    if real:
        pytest.importorskip(MODULES[name])
    else:
        INSTALL[name](monkeypatch, machine)
    opened = open_cuda(name)
    with opened.current():
        yield opened


def pattern(start: int = 0, size: int = SIZE) -> np.ndarray:
    return ((np.arange(size) + start) % 251).astype(np.uint8)


def pinned(cuda: Cuda, content: np.ndarray) -> HostMemory:
    memory = cuda.pin(content.size)
    memory.array[:] = content
    return memory


class At(DeviceMemory):
    """Memory that somebody else holds, as the GPU sees it."""

    def __init__(self, address: int) -> None:
        self.address = address

    def close(self) -> None: ...


def test_it_says_which_gpu_it_is(cuda: Cuda) -> None:
    assert cuda.gpu.name.strip() and "\0" not in cuda.gpu.name
    assert re.fullmatch(r"\d+\.\d", cuda.gpu.compute_capability)
    assert re.fullmatch(r"\d+\.\d+", cuda.gpu.driver)


def test_it_is_opened_once_per_process(cuda: Cuda) -> None:
    assert open_cuda(cuda.name) is cuda


def test_what_was_uploaded_comes_back(cuda: Cuda) -> None:
    source, target, device, stream = pinned(cuda, pattern()), cuda.pin(SIZE), cuda.reserve(SIZE), cuda.stream()
    stream.upload(device, source.array)
    stream.download(target.array, device)
    stream.synchronize()
    assert np.array_equal(target.array, pattern())


def test_part_of_a_buffer_leaves_the_rest(cuda: Cuda) -> None:
    source, target, device, stream = pinned(cuda, pattern()), pinned(cuda, np.full(SIZE, 255)), cuda.reserve(SIZE), cuda.stream()
    stream.upload(device, source.array[:100])
    stream.download(target.array[:100], device)
    stream.synchronize()
    assert np.array_equal(target.array[:100], pattern()[:100])
    assert np.all(target.array[100:] == 255)


def test_work_on_one_stream_is_done_in_order(cuda: Cuda) -> None:
    sources, target = [pinned(cuda, pattern(n)) for n in range(5)], cuda.pin(SIZE)
    device, stream = cuda.reserve(SIZE), cuda.stream()
    for source in sources:
        stream.upload(device, source.array)
    stream.download(target.array, device)
    stream.synchronize()
    assert np.array_equal(target.array, pattern(4))


def test_memory_is_aligned_as_tensorrt_wants_it(cuda: Cuda) -> None:
    blocks = [cuda.reserve(size) for size in (1, 3, 1000)]
    mapped = [cuda.pin(size, mapped=True) for size in (1, 3, 1000)]
    assert [memory.address % 256 for memory in (*blocks, *mapped)] == [0] * 6
    assert len({memory.address for memory in (*blocks, *mapped)}) == 6


def test_the_gpu_reads_mapped_memory_without_a_copy(cuda: Cuda) -> None:
    mapped, target, stream = cuda.pin(SIZE, mapped=True), cuda.pin(SIZE), cuda.stream()
    for start in (0, 100):
        mapped.array[:] = pattern(start)
        stream.download(target.array, At(mapped.address))
        stream.synchronize()
        assert np.array_equal(target.array, pattern(start))


def test_memory_that_is_not_mapped_has_no_address_for_the_gpu(cuda: Cuda) -> None:
    assert cuda.pin(SIZE).address == 0


def test_a_stream_has_a_handle_that_is_not_the_default_one(cuda: Cuda) -> None:
    streams = [cuda.stream(), cuda.stream()]
    assert all(stream.handle > 2 for stream in streams)  # 0, 1 and 2 are default streams
    assert streams[0].handle != streams[1].handle


def test_an_event_waits_for_the_work_before_it(cuda: Cuda) -> None:
    source, target, device = pinned(cuda, pattern()), cuda.pin(SIZE), cuda.reserve(SIZE)
    stream, event = cuda.stream(), cuda.event()
    for start in (0, 7):
        source.array[:] = pattern(start)
        stream.upload(device, source.array)
        stream.download(target.array, device)
        stream.record(event)
        event.synchronize()
        assert np.array_equal(target.array, pattern(start))


def test_events_measure_time_on_the_gpu(cuda: Cuda) -> None:
    source, device = pinned(cuda, pattern(size=1 << 20)), cuda.reserve(1 << 20)
    stream, before, after = cuda.stream(), cuda.event(), cuda.event()
    stream.record(before)
    for _ in range(20):
        stream.upload(device, source.array)
    stream.record(after)
    after.synchronize()
    assert 0 < after.milliseconds_since(before) < 10_000


def test_a_captured_graph_runs_when_it_is_launched_and_as_often(cuda: Cuda) -> None:
    source, target, device, stream = pinned(cuda, pattern()), pinned(cuda, np.zeros(SIZE)), cuda.reserve(SIZE), cuda.stream()

    def work() -> None:
        stream.upload(device, source.array)
        stream.download(target.array, device)

    graph = stream.capture(work)
    stream.synchronize()
    assert not target.array.any()  # recorded, not run
    for start in (3, 90, 17):
        source.array[:] = pattern(start)
        graph.launch(stream)
        stream.synchronize()
        assert np.array_equal(target.array, pattern(start))
    graph.close()


def test_a_capture_that_breaks_off_leaves_the_stream_usable(cuda: Cuda) -> None:
    source, target, device, stream = pinned(cuda, pattern()), pinned(cuda, np.zeros(SIZE)), cuda.reserve(SIZE), cuda.stream()

    def work() -> None:
        stream.upload(device, source.array)
        raise ZeroDivisionError("in between")

    with pytest.raises(ZeroDivisionError, match="in between"):
        stream.capture(work)
    stream.upload(device, source.array)
    stream.download(target.array, device)
    stream.synchronize()
    assert np.array_equal(target.array, pattern())


def test_what_cannot_be_captured_is_an_error_and_the_stream_usable(cuda: Cuda) -> None:
    source, device, stream = pinned(cuda, pattern()), cuda.reserve(SIZE), cuda.stream()
    with pytest.raises(CudaError, match="Synchronize.*captur"):
        stream.capture(stream.synchronize)
    graph = stream.capture(lambda: stream.upload(device, source.array))
    graph.launch(stream)
    stream.synchronize()


def test_other_threads_work_goes_on_during_a_capture(cuda: Cuda) -> None:
    target, stream, reserved = cuda.pin(SIZE), cuda.stream(), []
    source, device = pinned(cuda, pattern()), cuda.reserve(SIZE)

    def elsewhere() -> None:
        with cuda.current():
            other = cuda.stream()
            memory = cuda.reserve(SIZE)
            other.upload(memory, source.array)
            other.download(target.array, memory)
            other.synchronize()
            reserved.append(memory)

    def work() -> None:
        stream.upload(device, source.array)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(20)

    stream.capture(work).close()
    assert reserved and np.array_equal(target.array, pattern())


def test_it_is_used_from_another_thread_than_the_one_that_made_it(cuda: Cuda) -> None:
    source, target, device, stream = pinned(cuda, pattern()), cuda.pin(SIZE), cuda.reserve(SIZE), cuda.stream()
    done, failed = cuda.event(), []

    def elsewhere() -> None:
        try:
            with cuda.current(), cuda.current():  # within each other, as in a backend that closes itself
                stream.upload(device, source.array)
                stream.download(target.array, device)
                stream.record(done)
                done.synchronize()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(20)
    assert not failed
    assert np.array_equal(target.array, pattern())


def test_too_much_memory_is_an_error_in_cudas_words_and_the_next_call_works(cuda: Cuda) -> None:
    for reserve in (cuda.reserve, cuda.pin):
        with pytest.raises(CudaError, match=r"\w+: .*out of memory|failed: out of memory|invalid argument"):
            reserve(1 << 55)
        assert reserve(SIZE)
    stream = cuda.stream()
    stream.synchronize()


def test_everything_may_be_closed_twice(cuda: Cuda) -> None:
    source, device, stream, event = pinned(cuda, pattern()), cuda.reserve(SIZE), cuda.stream(), cuda.event()
    graph = stream.capture(lambda: stream.upload(device, source.array))
    for resource in (graph, event, source, device, stream) * 2:
        resource.close()


def test_pinned_memory_lives_as_long_as_a_view_of_it(cuda: Cuda) -> None:
    memory = pinned(cuda, pattern())
    view = memory.array[10:20].reshape(2, 5)
    memory.close()
    gc.collect()
    assert np.array_equal(view.ravel(), pattern()[10:20])


@pytest.mark.parametrize("name", INSTALL)
def test_what_is_closed_is_given_back_once(name: str, monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    INSTALL[name](monkeypatch, machine)
    cuda = open_cuda(name)
    with cuda.current():
        host, device, stream, event = cuda.pin(SIZE), cuda.reserve(SIZE), cuda.stream(), cuda.event()
        graph, view = stream.capture(lambda: stream.upload(device, host.array)), host.array[:1]
        for resource in (graph, event, host, device, stream) * 2:
            resource.close()
        assert sorted(machine.log) == ["event", "graph", "memory", "stream"]
        assert not machine.blocks and not machine.queues and not machine.graphs
        assert machine.pinned  # a view holds it
        del view
        assert machine.log.count("pinned") == 1 and not machine.pinned


@pytest.mark.parametrize("name", INSTALL)
@pytest.mark.parametrize("failing", [False, True])
def test_every_thread_gives_the_gpu_back(name: str, failing: bool, monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    INSTALL[name](monkeypatch, machine)
    cuda = open_cuda(name)
    try:
        with cuda.current():
            assert machine.depth
            if failing:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert machine.depth == (1 if name == "cuda-bindings" else 0)  # the runtime API has nothing to give back


@pytest.mark.parametrize("name", INSTALL)
def test_without_a_gpu_it_is_a_missing_device_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    INSTALL[name](monkeypatch, Machine(devices=0))
    with pytest.raises(MissingError, match=rf"^no NVIDIA GPU answers \({name}: .+\); check that `nvidia-smi` shows one$") as raised:
        open_cuda(name)
    assert raised.value.exit_code == 3


@pytest.mark.parametrize("name", INSTALL)
def test_a_gpu_that_answers_late_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(devices=0)
    INSTALL[name](monkeypatch, machine)
    with pytest.raises(MissingError):
        open_cuda(name)
    machine.devices = 1
    assert open_cuda(name).gpu.name == "Stand-in GPU"


def _hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """As if they were not installed, whatever has been imported before."""
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


def test_auto_takes_what_is_installed(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    with monkeypatch.context() as without:
        _hide(without, "cuda", "cuda.bindings")
        install_pycuda(without, machine)
        assert open_cuda().name == "pycuda"
    install_bindings(monkeypatch, machine)
    assert open_cuda().name == "cuda-bindings"


def test_neither_installed_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    _hide(monkeypatch, "cuda", "cuda.bindings", "pycuda")
    with pytest.raises(MissingError, match=r"needs a Python package for CUDA; get one with: pip install 'qtseg-edge\[cuda\]'"):
        open_cuda()
    for name in INSTALL:
        with pytest.raises(MissingError, match=rf"^--cuda-driver {name}: it is not installed; get it with: pip install"):
            open_cuda(name)


def test_an_unknown_driver_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError, match="--cuda-driver: wanted one of auto, cuda-bindings, pycuda; got 'cupy'"):
        open_cuda("cupy")


def test_the_real_cuda_bindings_has_every_name_that_is_used() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    source = (ROOT / "qtseg_edge" / "runtime" / "cuda" / "bindings.py").read_text(encoding="utf-8")
    names = set(re.findall(r"runtime\.(cuda\w+)", source))
    assert len(names) > 25
    assert not [name for name in names if not hasattr(runtime, name)]
    enums = re.findall(r"runtime\.(cudaMemcpyKind|cudaStreamCaptureMode)\.(\w+)", source)
    assert len(enums) == 3 and all(hasattr(getattr(runtime, enum), member) for enum, member in enums)


def test_the_real_cuda_bindings_without_a_driver_ends_in_one_line() -> None:
    pytest.importorskip("cuda.bindings.runtime")
    program = "from qtseg_edge.errors import MissingError\nfrom qtseg_edge.runtime.cuda.drivers import open_cuda\n"
    program += "try:\n    open_cuda('cuda-bindings')\nexcept MissingError as error:\n    print(error.exit_code, error)"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert re.fullmatch(
        r"3 no NVIDIA GPU answers \(cuda-bindings: cudaGetDeviceCount: .+\); check that `nvidia-smi` shows one\n", done.stdout
    )
    assert done.stderr == ""
