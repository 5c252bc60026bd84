from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qtseg_edge.errors import IncompatibleError, MissingError, UsageError
from qtseg_edge.runtime import FakeBackend, open_backend
from qtseg_edge.runtime.devices import DEVICES
from qtseg_edge.runtime.engine_file import read_sidecar
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx
from tests.runtime.engines import write_engine

ROOT = Path(__file__).parents[2]


def without(missing: str, model: Path, device: str, more: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Open a model in an interpreter that has not got these packages; prints the backend's name or the error's class and text.

    more: a folder whose packages hide those that are installed.
    """
    program = f"""
import sys
from pathlib import Path
sys.modules.update(dict.fromkeys({missing.split()!r}))
from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime import open_backend
try:
    print(open_backend(Path({str(model)!r}), {device!r}).name)
except QtsegError as error:
    print(type(error).__name__, error.exit_code, error)
"""
    environment = {**os.environ, "PYTHONPATH": f"{more}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True)


def test_auto_takes_openvino_for_an_onnx_file_and_says_so(small_onnx: Path) -> None:
    with open_backend(small_onnx) as backend:
        assert backend.name == "openvino f32"  # its card does not say that bf16 was measured


def test_auto_takes_torch_for_a_checkpoint(small_checkpoint: Path) -> None:
    with open_backend(small_checkpoint, "auto") as backend:
        assert backend.name == "torch"


@pytest.mark.parametrize(
    ("device", "name"), [("openvino", "openvino f32"), ("openvino:f32", "openvino f32"), ("onnxruntime", "onnxruntime"), ("fake", "fake")]
)
def test_every_device_says_what_it_is(small_onnx: Path, device: str, name: str) -> None:
    with open_backend(small_onnx, device) as backend:
        assert backend.name == name


def test_fake_needs_no_model_and_takes_the_description_of_one(small_onnx: Path) -> None:
    assert isinstance(open_backend(None, "fake"), FakeBackend)
    assert open_backend(small_onnx, "fake").spec == spec_from_onnx(small_onnx)


@pytest.mark.parametrize("device", ["cuda", "openvino:int8", "OPENVINO", "", "gpu:0"])
def test_an_unknown_device_is_refused_with_what_there_is(device: str) -> None:
    with pytest.raises(UsageError, match=f"wanted one of {', '.join(DEVICES)}; got '{device}'") as raised:
        open_backend(None, device)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("device", ["openvino", "onnxruntime"])
def test_a_device_that_is_not_installed_names_the_command(small_onnx: Path, device: str) -> None:
    done = without(device, small_onnx, device)
    assert done.stdout == f"MissingError 3 --device {device}: {device} is not installed; get it with: pip install 'qtseg-edge[cpu]'\n"


def test_torch_that_is_not_installed_names_the_command(small_checkpoint: Path) -> None:
    done = without("torch", small_checkpoint, "auto")
    assert done.stdout == "MissingError 3 --device torch: torch is not installed; get it with: pip install 'qtseg-edge[train]'\n"


def test_auto_takes_the_next_where_the_fastest_is_not_installed(small_onnx: Path) -> None:
    assert without("openvino", small_onnx, "auto").stdout == "onnxruntime\n"


def test_auto_without_any_engine_names_the_command(small_onnx: Path) -> None:
    done = without("openvino onnxruntime", small_onnx, "auto")
    assert done.stdout == "MissingError 3 no inference engine is installed; get one with: pip install 'qtseg-edge[cpu]'\n"


def test_an_engine_that_is_installed_but_does_not_load_says_why(small_onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('libtbb.so.12: cannot open shared object file')", encoding="utf-8")
    done = without("", small_onnx, "openvino", tmp_path)
    assert done.stdout.startswith("MissingError 3 --device openvino: openvino is installed but does not load (libtbb.so.12: cannot open")


@pytest.mark.parametrize("device", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".PTH"])
def test_a_checkpoint_on_an_engine_for_onnx_names_the_conversion(tmp_path: Path, device: str, suffix: str) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"x")
    with pytest.raises(UsageError, match=rf"--device {device} opens an \.onnx file, got model{suffix}; convert with: qtseg-edge export"):
        open_backend(tmp_path / f"model{suffix}", device)


def test_an_onnx_file_on_torch_names_what_it_opens(small_onnx: Path) -> None:
    with pytest.raises(UsageError, match=r"--device torch opens a checkpoint \(\.safetensors or \.pt\), got small\.onnx"):
        open_backend(small_onnx, "torch")


@pytest.mark.parametrize("device", ["auto", "openvino", "torch", "fake"])
@pytest.mark.parametrize("name", ["missing.onnx", "missing.pt"])
def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path, device: str, name: str) -> None:
    with pytest.raises(UsageError, match=r"missing\.\w+: no such model; make one with: qtseg-edge export CHECKPOINT -o .*missing"):
        open_backend(tmp_path / name, device)


def test_a_directory_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model"):
        open_backend(tmp_path, "onnxruntime")


def test_half_precision_is_taken_by_itself_only_where_the_card_allows_it(small_onnx: Path, tmp_path: Path) -> None:
    import onnx

    from qtseg_edge.runtime.openvino import has_bf16
    from qtseg_edge.runtime.openvino_library import openvino
    from qtseg_edge.spec import SPEC_KEY

    model = onnx.load(small_onnx)
    allowed = spec_from_onnx(small_onnx).to_json().replace('"bf16_verified": false', '"bf16_verified": true')
    onnx.helper.set_model_props(model, {SPEC_KEY: allowed})
    onnx.save(model, tmp_path / "model.onnx")
    wanted = "openvino bf16" if has_bf16(openvino.Core()) else "openvino f32"
    with open_backend(tmp_path / "model.onnx") as backend:
        assert backend.name == wanted
    with open_backend(tmp_path / "model.onnx", "openvino:f32") as backend:
        assert backend.name == "openvino f32"


def test_half_precision_on_a_cpu_without_it_is_a_missing_device(small_onnx: Path) -> None:
    from qtseg_edge.runtime.openvino import has_bf16
    from qtseg_edge.runtime.openvino_library import openvino

    if has_bf16(openvino.Core()):
        with open_backend(small_onnx, "openvino:bf16") as backend:
            assert backend.name == "openvino bf16"
        return
    with pytest.raises(MissingError, match="this CPU has no bfloat16 arithmetic; use --device openvino:f32"):
        open_backend(small_onnx, "openvino:bf16")


def test_an_onnx_file_of_somebody_else_is_incompatible(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="an engine must be there to open it")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x0a")  # ir_version: 10, and nothing else
    with pytest.raises(IncompatibleError, match=r"no qtseg_edge\.spec in its metadata") as raised:
        open_backend(tmp_path / "model.onnx")
    assert raised.value.exit_code == 4


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_tensorrt_opens_engines_only_and_names_the_command_that_builds_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        UsageError,
        match=rf"--device tensorrt opens an \.engine file, got {name}; build one with: qtseg-edge build-engine .*{name} -o model",
    ):
        open_backend(tmp_path / name, "tensorrt")


@pytest.mark.parametrize("device", ["openvino", "openvino:bf16", "onnxruntime", "torch"])
def test_an_engine_on_another_device_is_refused(tmp_path: Path, device: str) -> None:
    with pytest.raises(UsageError, match=rf"--device {device} opens no \.engine file, got model\.engine; open it with --device tensorrt"):
        open_backend(tmp_path / "model.engine", device)


@pytest.mark.parametrize("device", ["auto", "tensorrt", "fake"])
def test_a_missing_engine_names_the_command_that_builds_it(tmp_path: Path, device: str) -> None:
    with pytest.raises(
        UsageError, match=r"missing\.engine: no such engine; build it on this machine: qtseg-edge build-engine MODEL -o .*missing"
    ):
        open_backend(tmp_path / "missing.engine", device)


def test_fake_takes_the_description_of_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    engine = write_engine(tmp_path)
    with open_backend(engine, "fake") as backend:
        assert backend.spec == read_sidecar(engine).spec


def test_an_engine_needs_neither_torch_nor_onnx_nor_another_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    done = without("torch onnx onnxruntime openvino av cuda pycuda tensorrt", write_engine(tmp_path), "auto")
    assert done.stdout.startswith("MissingError 3 tensorrt is not installed; on a Jetson it comes with JetPack")
