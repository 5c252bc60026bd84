"""The entry script of the containers, outside of one: what it builds, what it becomes, and what signals and failures do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qtseg_edge.runtime.engine_file import read_sidecar, write_sidecar
from tests.deploy.containers import ENTRYPOINT, PATIENCE, Container, wait_for

WEB = ("-o", "web://0.0.0.0:8080")


def on_gpu(folder: Path, **environment: str) -> Container:
    return Container(folder, QTSEG_EDGE_DEVICE="tensorrt", **environment)


def test_the_engine_is_asked_for_before_the_run_and_the_run_is_the_same_process(tmp_path: Path) -> None:
    container = on_gpu(tmp_path, QTSEG_EDGE_MODEL="/models/ward.onnx", QTSEG_EDGE_SOURCE="v4l2:///dev/video0")
    with container.start(*WEB) as process:
        process.communicate(timeout=PATIENCE)
    engine = str(container.engines / "ward-fp16.engine")
    assert process.returncode == 0
    assert container.calls == [
        ["build-engine", "/models/ward.onnx", "--precision", "fp16", "-o", engine, "--if-needed"],
        ["run", "--device", "tensorrt", "--model", engine, "--source", "v4l2:///dev/video0", *WEB],
    ]
    assert container.pids[1] == process.pid != container.pids[0]


@pytest.mark.parametrize(
    ("model", "precision", "asked", "engine"),
    [
        ("", "int8", [], "built-in-int8.engine"),
        ("/m/polyp-{precision}.onnx", "int8", ["/m/polyp-int8.onnx"], "polyp-int8.engine"),
        ("/m/a.safetensors", "fp32", ["/m/a.safetensors"], "a-fp32.engine"),
    ],
)
def test_there_is_one_engine_per_model_and_precision(tmp_path: Path, model: str, precision: str, asked: list[str], engine: str) -> None:
    container = on_gpu(tmp_path, QTSEG_EDGE_MODEL=model, QTSEG_EDGE_PRECISION=precision, QTSEG_EDGE_BUILD_OPTIONS="--workspace '2'")
    assert container.done()[0] == 0
    path = str(container.engines / engine)
    assert container.calls[0] == ["build-engine", *asked, "--precision", precision, "-o", path, "--if-needed", "--workspace", "2"]
    assert container.calls[1] == ["run", "--device", "tensorrt", "--model", path]


def test_an_engine_that_is_given_is_opened_as_it_is(tmp_path: Path) -> None:
    container = on_gpu(tmp_path, QTSEG_EDGE_MODEL="/models/mine.engine")
    assert container.done("--trust")[0] == 0
    assert container.calls == [["run", "--device", "tensorrt", "--model", "/models/mine.engine", "--trust"]]


@pytest.mark.parametrize("first", [(), ("run",)])
def test_without_a_gpu_nothing_is_built(tmp_path: Path, first: tuple[str, ...]) -> None:
    container = Container(tmp_path, QTSEG_EDGE_DEVICE="openvino")
    assert container.done(*first, *WEB)[0] == 0
    assert container.calls == [["run", "--device", "openvino", *WEB]]
    assert not container.engines.exists()


def test_another_command_is_run_as_it_is(tmp_path: Path) -> None:
    container = on_gpu(tmp_path, RUN_CODE="3", QTSEG_EDGE_SOURCE="0")
    assert container.done("doctor", "--json")[0] == 3
    assert container.calls == [["doctor", "--json"]]


@pytest.mark.parametrize("code", [1, 3, 4, 5])
def test_a_build_that_fails_is_the_end_and_its_exit_code_is_told(tmp_path: Path, code: int) -> None:
    container = on_gpu(tmp_path, CODE=str(code))
    assert container.done()[0] == code
    assert [call[0] for call in container.calls] == ["build-engine"]
    assert list(container.engines.iterdir()) == []


def test_a_signal_ends_the_build_which_cleans_up_and_nothing_is_run(tmp_path: Path) -> None:
    container = on_gpu(tmp_path, WAITS=str(tmp_path / "building"))
    with container.start() as process:
        wait_for(tmp_path / "building", process)
        assert (container.engines / "half").exists()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert list(container.engines.iterdir()) == [] and len(container.calls) == 1


def test_a_signal_between_the_build_and_the_run_is_not_lost(tmp_path: Path) -> None:
    container = on_gpu(tmp_path)
    program = (
        f"import os, runpy, signal, sys; sys.argv = [{str(ENTRYPOINT)!r}]; "
        f"os.execvp = lambda *_: os.kill(os.getpid(), signal.SIGTERM); runpy.run_path({str(ENTRYPOINT)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], env=container.environment, timeout=PATIENCE)
    assert done.returncode == -signal.SIGTERM and [call[0] for call in container.calls] == ["build-engine"]


def test_a_volume_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "engines").write_bytes(b"")
    code, err = on_gpu(tmp_path).done()
    assert code == 1 and err.splitlines() == [f"entrypoint.py: {tmp_path}/engines: File exists"]


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    container = Container(tmp_path)
    (tmp_path / "bin" / "qtseg-edge").unlink()
    container.environment["PATH"] = str(tmp_path / "bin")
    code, err = container.done()
    assert code == 1 and "qtseg-edge: No such file or directory" in err


def test_the_real_run_gets_the_signal_and_finalises_its_files(tmp_path: Path) -> None:
    container = Container(tmp_path, stand_in=False, QTSEG_EDGE_DEVICE="fake", QTSEG_EDGE_SOURCE="testsrc://160x120@25")
    out = tmp_path / "out.jsonl"
    with container.start("-o", str(out)) as process:
        wait_for(tmp_path / "out.recording.jsonl", process)
        while not (tmp_path / "out.recording.jsonl").read_bytes().count(b"\n"):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        err = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert [json.loads(line) for line in out.read_text().splitlines()] and not (tmp_path / "out.recording.jsonl").exists()


def test_a_real_engine_is_built_once_and_again_when_its_tensorrt_is_another(tmp_path: Path) -> None:
    """NVIDIA's own builder, which needs no GPU. Running the engine does: `run` then says so with exit code 3."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed; get it with: pip install 'qtseg-edge[tensorrt-rtx]'")
    pytest.importorskip("onnx", reason="the model is made with onnx")
    from tests.export.builds import written
    from tests.export.graphs import residual

    if subprocess.run(["ldconfig", "-p"], capture_output=True, text=True).stdout.count("libcuda.so.1"):
        pytest.skip("for a machine without an NVIDIA driver")
    container = Container(
        tmp_path,
        stand_in=False,
        QTSEG_EDGE_DEVICE="tensorrt",
        QTSEG_EDGE_MODEL=str(written(tmp_path / "small.onnx", residual(size=64))),
        QTSEG_EDGE_PRECISION="fp32",
        QTSEG_EDGE_SOURCE="testsrc://64x64@25",
        QTSEG_EDGE_BUILD_OPTIONS="--flavour tensorrt-rtx",
    )
    engine = container.engines / "small-fp32.engine"

    def started() -> str:
        code, err = container.done("-o", "null://")
        assert code == 3, err
        return err

    first = started()
    assert engine.is_file() and "nothing to build" not in first
    built = engine.stat().st_mtime_ns
    assert "nothing to build" in started() and engine.stat().st_mtime_ns == built
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", container.environment["XDG_DATA_HOME"])
        write_sidecar(engine, replace(read_sidecar(engine), tensorrt="1.0.0.1").signed())
    again = started()
    assert "building again: " in again and "was built with tensorrt-rtx 1.0.0.1" in again
    assert engine.stat().st_mtime_ns != built
    assert sorted(path.name for path in container.engines.iterdir()) == ["small-fp32.engine", "small-fp32.engine.json"]
