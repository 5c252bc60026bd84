from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from qtseg_edge.benchmark.candidates import Candidate, Skipped, Wanted, candidates_of
from qtseg_edge.benchmark.limits import Cost
from qtseg_edge.errors import UsageError
from qtseg_edge.spec import SPEC_KEY, ModelSpec
from tests.export.builds import CARD, written
from tests.export.graphs import residual
from tests.runtime.engines import write_engine


def found_in(folder: Path, *models: Path, **wanted: tuple[object, ...]) -> tuple[list[Candidate], list[Skipped]]:
    exported = folder / "exported"
    exported.mkdir()
    return candidates_of(Wanted(models, **wanted), exported)  # type: ignore[arg-type]


def labels(candidates: list[Candidate]) -> list[str]:
    return [one.label for one in candidates]


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    """An .onnx file for one image of 64x64."""
    return written(tmp_path / "fixed.onnx", residual(size=64))


def test_an_onnx_file_is_measured_on_every_backend_that_opens_it(fixed: Path, tmp_path: Path) -> None:
    candidates, skipped = found_in(tmp_path, fixed)
    assert labels(candidates) == ["fixed.onnx openvino:f32 64", "fixed.onnx openvino:bf16 64", "fixed.onnx onnxruntime 64"]
    assert skipped == [] and not any(one.required for one in candidates)
    assert isinstance(candidates[0].cost, Cost) and sum(candidates[0].cost.macs.values()) > 0


def test_what_a_file_was_not_made_for_is_skipped_and_said(fixed: Path, tmp_path: Path) -> None:
    candidates, skipped = found_in(tmp_path, fixed, sizes=((64, 64), (96, 96)), batches=(1, 8), devices=("onnxruntime", "torch"))
    assert labels(candidates) == ["fixed.onnx onnxruntime 64"] and candidates[0].required
    assert skipped == [
        Skipped("fixed.onnx 96", "it takes 64 alone; give the checkpoint to compare sizes"),
        Skipped("fixed.onnx torch", "torch opens checkpoints alone"),
        Skipped("fixed.onnx x8", "it takes a batch of 1"),
    ]


def test_an_onnx_file_of_any_batch_takes_every_one(tmp_path: Path) -> None:
    path = written(tmp_path / "any.onnx", residual(size=64), batch=None)
    candidates, skipped = found_in(tmp_path, path, batches=(1, 3), devices=("onnxruntime",))
    assert labels(candidates) == ["any.onnx onnxruntime 64", "any.onnx onnxruntime 64 x3"]
    assert skipped == []


def test_a_checkpoint_runs_at_every_size_and_batch_and_knows_an_export_of_itself(small_checkpoint: Path, tmp_path: Path) -> None:
    wanted = {"devices": ("torch", "tensorrt"), "sizes": ((64, 96), (32, 32)), "batches": (1, 2)}
    candidates, skipped = found_in(tmp_path, small_checkpoint, **wanted)
    assert [(one.size_hw, one.batch) for one in candidates] == [((64, 96), 1), ((64, 96), 2), ((32, 32), 1), ((32, 32), 2)]
    assert [(one.what, one.reason.partition(":")[0]) for one in skipped] == [("small.safetensors tensorrt", "a checkpoint is built first")]
    first, last = candidates[0].cost, candidates[-1].cost
    assert isinstance(first, Cost) and isinstance(last, Cost) and last.macs["FP32"] < first.macs["FP32"]
    export = residual(size=64)
    spec = ModelSpec(CARD, (64, 96), 1, candidates[0].network.split()[0])
    onnx.helper.set_model_props(export, {SPEC_KEY: spec.to_json()})
    onnx.save(export, tmp_path / "export.onnx")
    (from_file, *_), _ = candidates_of(Wanted((tmp_path / "export.onnx",)), tmp_path)
    assert from_file.network == candidates[0].network == candidates[1].network != candidates[2].network


def test_what_cannot_be_exported_is_a_failure_that_is_said(small_checkpoint: Path, tmp_path: Path) -> None:
    candidates, skipped = candidates_of(Wanted((small_checkpoint,)), tmp_path / "full")
    assert labels(candidates) == ["small.safetensors torch 64x96"]
    assert [(one.what, one.is_failure) for one in skipped] == [("small.safetensors exported 64x96", True)]
    assert "no such folder" in skipped[0].reason


def test_an_engine_runs_on_tensorrt_within_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    engine = write_engine(tmp_path, batches=(1, 4, 8))
    candidates, skipped = found_in(tmp_path, engine, batches=(1, 8, 16))
    assert labels(candidates) == ["model.engine tensorrt 32x64", "model.engine tensorrt 32x64 x8"]
    assert candidates[0].uses_gpu and candidates[0].precision == "fp16"
    assert "give the .onnx file or the checkpoint" in str(candidates[0].cost)
    assert skipped == [Skipped("model.engine x16", "it takes a batch of 1 to 8")]


def test_without_anything_to_measure_it_says_why(fixed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing to measure; fixed.onnx x2: it takes a batch of 1$"):
        found_in(tmp_path, fixed, batches=(2,))


@pytest.mark.parametrize(
    ("name", "device", "match"), [("none.onnx", "onnxruntime", "no such model"), ("fixed.onnx", "tpu", "--device: wanted")]
)
def test_what_cannot_be_meant_is_refused(fixed: Path, tmp_path: Path, name: str, device: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        found_in(tmp_path, tmp_path / name, devices=(device,))
