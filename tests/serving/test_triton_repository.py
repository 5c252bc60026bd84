"""Versions of a model repository: added whole or not at all, and never touched again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.runtime.engine_file import read_plan, read_sidecar
from qtseg_edge.serving.servable import read_servable
from qtseg_edge.serving.staging import new_folder
from qtseg_edge.serving.triton_config import TritonOptions
from qtseg_edge.serving.triton_repository import add_version
from tests.disks import small_disk
from tests.runtime.engines import write_engine
from tests.serving.models import write_graph

OPTIONS = TritonOptions("bright", "onnxruntime")


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["export-triton", *arguments], env={"COLUMNS": "200"})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_layout_of_the_three_back_ends(tmp_path: Path, engine: Path) -> None:
    graph = write_graph(tmp_path / "bright.onnx")
    repository = tmp_path / "models"
    add_version(repository, read_servable(graph), OPTIONS)
    add_version(repository, read_servable(graph), TritonOptions("cpu", "python"))
    add_version(repository, read_servable(engine), TritonOptions("fast", "tensorrt"))
    assert sorted(contents(repository)) == [
        "bright/1/model.onnx",
        "bright/config.pbtxt",
        "bright/qtseg-edge.json",
        "cpu/1/model.onnx",
        "cpu/1/model.py",
        "cpu/config.pbtxt",
        "cpu/qtseg-edge.json",
        "fast/1/model.plan",
        "fast/1/model.plan.json",
        "fast/config.pbtxt",
        "fast/qtseg-edge.json",
    ]
    assert (repository / "bright" / "1" / "model.onnx").read_bytes() == graph.read_bytes()


def test_the_sidecar_still_answers_for_the_plan(tmp_path: Path, engine: Path) -> None:
    plan = add_version(tmp_path / "models", read_servable(engine), TritonOptions("fast", "tensorrt")).model_file
    assert read_plan(plan, read_sidecar(plan)) == engine.read_bytes()


def test_the_next_version_leaves_the_earlier_ones_and_the_users_config_alone(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    assert add_version(repository, read_servable(write_graph(tmp_path / "a.onnx")), OPTIONS).version == 1
    config = repository / "bright" / "config.pbtxt"
    config.write_text(config.read_text().replace("count: 1", "count: 3"))
    before = contents(repository)
    (repository / "bright" / "007").mkdir()  # no version of Triton's
    second = add_version(repository, read_servable(write_graph(tmp_path / "b.onnx", cut=100.0)), OPTIONS)
    assert (second.version, second.is_new) == (2, True)
    after = contents(repository)
    assert {name: after[name] for name in before} == before and set(after) - set(before) == {"bright/2/model.onnx"}


def test_the_same_file_is_not_written_twice(tmp_path: Path) -> None:
    model = read_servable(write_graph(tmp_path / "a.onnx"))
    add_version(tmp_path / "models", model, OPTIONS)
    again = add_version(tmp_path / "models", model, OPTIONS)
    assert (again.version, again.is_new) == (1, False)
    assert not (tmp_path / "models" / "bright" / "2").exists()


def test_a_model_of_another_interface_is_no_next_version(tmp_path: Path) -> None:
    add_version(tmp_path / "models", read_servable(write_graph(tmp_path / "a.onnx")), OPTIONS)
    before = contents(tmp_path / "models")
    with pytest.raises(UsageError, match=r"its versions have another batch, is_batched, and one config\.pbtxt; choose another --name"):
        add_version(tmp_path / "models", read_servable(write_graph(tmp_path / "b.onnx", batch=1)), OPTIONS)
    assert contents(tmp_path / "models") == before


@pytest.mark.parametrize("text", [None, "{", "[]", "null", '{"backend": "onnxruntime"}'])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, text: str | None) -> None:
    folder = tmp_path / "models" / "bright"
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text("mine")
    if text is not None:
        (folder / "qtseg-edge.json").write_text(text)
    before = contents(tmp_path / "models")
    with pytest.raises(UsageError, match=r"choose another --name"):
        add_version(tmp_path / "models", read_servable(write_graph(tmp_path / "a.onnx")), OPTIONS)
    assert contents(tmp_path / "models") == before


def test_a_full_disk_leaves_neither_a_model_nor_half_a_version(tmp_path: Path) -> None:
    model = read_servable(write_engine(tmp_path, plan=b"p" * 50_000))
    with small_disk(), pytest.raises(OSError):
        add_version(tmp_path / "models", model, TritonOptions("fast", "tensorrt"))
    assert list((tmp_path / "models").iterdir()) == []


def test_a_name_taken_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot take this name .*; try again"), new_folder(tmp_path / "2") as pending:
        (pending / "mine").write_text("")
        (tmp_path / "2").mkdir()
        (tmp_path / "2" / "theirs").write_text("")
    assert [path.name for path in tmp_path.rglob("*")] == ["2", "theirs"]


def test_an_engine_that_triton_cannot_open_is_refused(tmp_path: Path) -> None:
    rtx = read_servable(write_engine(tmp_path, "tensorrt-rtx"))
    with pytest.raises(IncompatibleError, match=r"Triton opens engines of full TensorRT, .* --flavour tensorrt"):
        add_version(tmp_path / "models", rtx, TritonOptions("fast", "tensorrt"))


@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
def test_a_file_of_the_other_kind_is_refused(tmp_path: Path, engine: Path, backend: Any) -> None:
    with pytest.raises(UsageError, match=rf"--backend {backend} serves an \.onnx file, got .*model\.engine"):
        add_version(tmp_path / "models", read_servable(engine), TritonOptions("x", backend))
    with pytest.raises(UsageError, match=r"--backend tensorrt serves an engine"):
        add_version(tmp_path / "models", read_servable(write_graph(tmp_path / "a.onnx")), TritonOptions("x", "tensorrt"))


def test_the_command_says_what_was_written_what_to_type_and_what_nobody_checked(tmp_path: Path, engine: Path) -> None:
    shown = call(str(engine), "-o", str(tmp_path / "m"), "--name", "polyp")
    assert shown.exit_code == 0, shown.output
    assert f"{tmp_path}/m/polyp, version 1 of 1" in shown.stdout and "up to 4 images at once" in shown.stdout
    assert "docker run --rm --gpus all -p 127.0.0.1:8000:8000" in shown.stdout and ":/models:ro" in shown.stdout
    assert "--model-control-mode=explicit --load-model=polyp" in shown.stdout
    assert "exactly TensorRT 10.3.0, on Stand-in GPU" in shown.stdout and "unverified" in shown.stdout
    assert "is there already" in call(str(engine), "-o", str(tmp_path / "m"), "--name", "polyp").stdout


def test_the_built_in_model_needs_no_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call().exit_code == 0
    assert json.loads((tmp_path / "triton" / "kvasir-seg-polyp" / "qtseg-edge.json").read_text())["size_hw"] == [352, 352]
    shutil.rmtree(tmp_path / "triton")
    assert call("--backend", "python", "--device", "torch").exit_code == 2
    assert call("--name", "../elsewhere").exit_code == 2
    assert list(tmp_path.iterdir()) == []
