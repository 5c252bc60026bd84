"""`build-engine` with NVIDIA's own builder, which needs no GPU. Running an engine does; the gate then runs its graph."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from qtseg_edge.calibration import default_calibration_set
from qtseg_edge.cli import app
from qtseg_edge.console import OnProgress
from qtseg_edge.errors import GateError, IncompatibleError, MissingError, QtsegError, UsageError
from qtseg_edge.export.builder import BuildOptions
from qtseg_edge.export.engine import EngineReport, EngineRequest, build_engine
from qtseg_edge.export.precision_note import PRECISION_KEY, PrecisionNote
from qtseg_edge.runtime import open_backend
from qtseg_edge.runtime.engine_file import PRECISIONS, Precision, read_plan, read_sidecar, sidecar_path
from qtseg_edge.runtime.onnx_metadata import read_metadata, spec_from_onnx
from qtseg_edge.runtime.tensorrt_library import RTX_COMPUTE_CAPABILITIES
from tests.labelled import box, marked_split

RTX = BuildOptions("tensorrt-rtx")


def silent(what: str, unit: str, total: int | None) -> AbstractContextManager[OnProgress]:
    return nullcontext(lambda done, total=None, note="": None)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's key and caches, shared by these tests and nobody else."""
    home = tmp_path_factory.getbasetemp() / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))


@pytest.fixture(scope="session")
def calibration() -> Path:
    """48 images and 16 held out."""
    folder = default_calibration_set()
    assert folder is not None
    return folder


@pytest.fixture
def request_of(exported: Path, calibration: Path, tmp_path: Path) -> EngineRequest:
    """INT8 of the small model, whatever its masks are."""
    return EngineRequest(exported, tmp_path / "small.engine", "int8", RTX, calibration, limit=0.0)


def build(request: EngineRequest) -> EngineReport:
    return build_engine(request, silent)


def labelled(folder: Path, images: int) -> Path:
    return marked_split(folder, {f"{n}": (box(n, 0, 40, 40), box(n, 0, 40, 50)) for n in range(images)})


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_engine_says_what_it_is_and_is_signed(request_of: EngineRequest, precision: str) -> None:
    report = build(replace(request_of, precision=precision))  # type: ignore[arg-type]
    engine = request_of.output
    sidecar = read_sidecar(engine)
    assert report.output == engine
    assert read_plan(engine, sidecar)[:4] == b"vtrt"
    assert (sidecar.precision, sidecar.verified, sidecar.flavour, sidecar.batches) == (precision, "graph", "tensorrt-rtx", (1, 1, 1))
    assert sidecar.spec == spec_from_onnx(request_of.model)
    assert sidecar.model_sha256 == hashlib.sha256(request_of.model.read_bytes()).hexdigest()
    assert sidecar.layers == report.layers
    assert sidecar.layers["FP16"] > sidecar.layers["FP32"] > 0
    assert sidecar.layers.get("INT8", 0) == (0 if precision == "fp16" else len(int8_convolutions(request_of)))
    assert sidecar.gate["passed"] and "emulated" in sidecar.gate["judge"] and sidecar.gate["images"] == 16
    assert sidecar.calibration["images"] == 48
    assert len(sidecar.calibration["manifest_sha256"]) == 64


def int8_convolutions(request: EngineRequest) -> list[str]:
    from qtseg_edge.export.precision.int8 import quantisable_nodes

    return list(quantisable_nodes(onnx.load(request.model)))


def test_fp32_needs_no_images_and_has_no_gate(request_of: EngineRequest) -> None:
    report = build(replace(request_of, precision="fp32", calibration=None))
    sidecar = read_sidecar(request_of.output)
    assert set(report.layers) == {"FP32"} and report.gate is None
    assert sidecar.gate == {} and sidecar.calibration == {}


def test_the_graph_of_int8_is_smaller_than_that_of_fp16_and_that_than_fp32(request_of: EngineRequest, tmp_path: Path) -> None:
    graph = replace(request_of, output=tmp_path / "graph.onnx")
    sizes = [build(replace(graph, precision=precision)).bytes for precision in PRECISIONS]
    assert sizes[0] > 1.7 * sizes[1] and sizes[1] > sizes[2]


def test_what_fails_the_gate_leaves_nothing(request_of: EngineRequest) -> None:
    request_of.output.write_bytes(b"the engine that was there")
    report = build(replace(request_of, limit=1.01))
    assert report.output is None
    assert [path.name for path in request_of.output.parent.iterdir()] == ["small.engine"]
    assert request_of.output.read_bytes() == b"the engine that was there"
    with pytest.raises(GateError, match=r"int8 is not accurate enough: mask IoU .*nothing was written; .*--sensitivity"):
        report.require()


def test_what_fails_is_kept_under_another_name_when_asked(request_of: EngineRequest) -> None:
    report = build(replace(request_of, limit=1.01, keep_failed=True))
    kept = request_of.output.with_name("small.failed.engine")
    assert report.output == kept and not request_of.output.exists()
    assert read_sidecar(kept).gate["passed"] is False


def test_labelled_images_decide_where_they_are_given(request_of: EngineRequest, tmp_path: Path) -> None:
    data = labelled(tmp_path / "val", 3)
    report = build(replace(request_of, output=tmp_path / "graph.onnx", data=data, limit=100.0))
    assert report.gate is not None
    assert (report.gate.measure, len(report.gate.images), report.gate.data) == ("dice", 3, "val")


def test_the_graph_alone_can_be_had_and_built_elsewhere_without_images(request_of: EngineRequest, tmp_path: Path) -> None:
    graph = tmp_path / "small-int8.onnx"
    assert build(replace(request_of, output=graph)).output == graph
    note = PrecisionNote.from_json(read_metadata(graph)[PRECISION_KEY])
    assert note.precision == "int8" and note.gate["passed"] and spec_from_onnx(graph) == spec_from_onnx(request_of.model)
    with open_backend(graph, "onnxruntime") as backend:
        backend.infer(np.zeros((1, 64, 96, 3), np.uint8))
    build(replace(request_of, model=graph, calibration=None))
    sidecar = read_sidecar(request_of.output)
    assert (sidecar.precision, sidecar.gate, sidecar.model_sha256) == ("int8", note.gate, note.model_sha256)
    assert sidecar.onnx_sha256 == hashlib.sha256(graph.read_bytes()).hexdigest()
    with pytest.raises(UsageError, match=r"--precision fp16: .*small-int8\.onnx is int8 already"):
        build(replace(request_of, model=graph, precision="fp16"))


def noted(model: Path, path: Path, note: str) -> Path:
    """A copy with another note of its precision."""
    copy = onnx.load(model)
    onnx.helper.set_model_props(copy, read_metadata(model) | {PRECISION_KEY: note})
    onnx.save(copy, path)
    return path


def test_a_graph_is_counted_whatever_its_note_says(request_of: EngineRequest, tmp_path: Path) -> None:
    says = PrecisionNote("int8", "0" * 64, {"INT8": {"Conv": 60}}, 1, 1, gate={"passed": True}).to_json()
    model = noted(request_of.model, tmp_path / "says-int8.onnx", says)
    with pytest.raises(GateError, match=r"asked for int8, but no layer came out as INT8 \(layers: \d+ FP32\)"):
        build(replace(request_of, model=model))
    assert not request_of.output.exists()


def test_a_graph_that_failed_its_comparison_never_becomes_an_engine(request_of: EngineRequest, tmp_path: Path) -> None:
    failed = build(replace(request_of, output=tmp_path / "a.onnx", limit=1.01, keep_failed=True)).output
    assert failed is not None
    with pytest.raises(GateError, match=r"a\.failed\.onnx: was not accurate enough when it was compared with FP32"):
        build(replace(request_of, model=failed))
    assert not request_of.output.exists()


@pytest.mark.parametrize(
    "note",
    ["[]", "{", '{"precision": "int8"}', PrecisionNote("int8", "", [], 1, 1).to_json()],  # type: ignore[arg-type]
)
def test_a_note_that_is_none_is_told(request_of: EngineRequest, tmp_path: Path, note: str) -> None:
    with pytest.raises(IncompatibleError, match=r"noted\.onnx: its qtseg_edge\.precision is not readable"):
        build(replace(request_of, model=noted(request_of.model, tmp_path / "noted.onnx", note)))


def test_an_fp32_graph_that_build_engine_wrote_is_still_an_fp32_model(request_of: EngineRequest, tmp_path: Path) -> None:
    plain = tmp_path / "plain.onnx"
    build(replace(request_of, output=plain, precision="fp32"))
    assert build(replace(request_of, model=plain, precision="fp16")).layers["FP16"] > 0
    assert set(build(replace(request_of, output=tmp_path / "again.onnx", model=plain, precision="fp32")).layers) == {"FP32"}


def test_a_board_with_tensorrt_alone_builds_a_graph_that_has_its_precision(request_of: EngineRequest, tmp_path: Path) -> None:
    graph = tmp_path / "small-fp16.onnx"
    build(replace(request_of, output=graph, precision="fp16"))
    code = """
import sys
sys.modules.update(dict.fromkeys(("torch", "onnx", "onnxruntime", "openvino", "av", "kornia", "safetensors", "cuda", "pycuda")))
from qtseg_edge.cli import app
app(sys.argv[1:])
"""
    arguments = ["build-engine", str(graph), "-o", str(request_of.output), "--flavour", "tensorrt-rtx"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert read_sidecar(request_of.output).layers["FP16"] > 0


def test_the_same_model_built_twice_gives_the_same_bytes(request_of: EngineRequest, tmp_path: Path) -> None:
    build(request_of)
    build(replace(request_of, output=tmp_path / "again.engine"))
    assert request_of.output.read_bytes() == (tmp_path / "again.engine").read_bytes()


def test_a_checkpoint_is_exported_on_the_way(request_of: EngineRequest, small_checkpoint: Path) -> None:
    build(replace(request_of, model=small_checkpoint, precision="fp32", calibration=None, build=replace(RTX, batches=(1, 2, 4))))
    sidecar = read_sidecar(request_of.output)
    assert (sidecar.batches, sidecar.spec.batch) == ((1, 2, 4), None)
    assert sidecar.model_sha256 == sidecar.spec.checkpoint_sha256 == hashlib.sha256(small_checkpoint.read_bytes()).hexdigest()


def test_layers_have_their_cost_and_can_be_left_out(request_of: EngineRequest, tmp_path: Path) -> None:
    report = build(replace(request_of, output=tmp_path / "graph.onnx", sensitivity=True, exclude=("encoder.*",)))
    left = [name for name in int8_convolutions(request_of) if not name.startswith("encoder.")]
    assert len(left) > 3 and sorted(cost.node for cost in report.costs) == sorted(left)
    dearest = report.costs[0].node
    without = build(replace(request_of, exclude=("encoder.*", dearest)))
    assert without.layers["INT8"] == report.layers["INT8"] - 1
    assert read_sidecar(request_of.output).build["exclude"] == ["encoder.*", dearest]


def test_another_model_wants_calibration_images_of_its_own(request_of: EngineRequest) -> None:
    with pytest.raises(UsageError, match=r"--precision int8 wants images like those the model will see: --calibration DIR; .*calibrate"):
        build(replace(request_of, calibration=None))


def test_calibration_images_are_not_those_it_is_judged_on(request_of: EngineRequest, tmp_path: Path) -> None:
    assert request_of.calibration is not None
    data = labelled(tmp_path / "val", 2)
    stolen = request_of.calibration / "0005.jpg"
    (data / "images" / "0.png").unlink()
    (data / "images" / "0.jpg").write_bytes(stolen.read_bytes())
    with pytest.raises(UsageError, match="0005"):
        build(replace(request_of, data=data))


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_built(request_of: EngineRequest, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="no such folder"):
        build(replace(request_of, output=tmp_path / "file" / "a.engine"))
    with pytest.raises(QtsegError, match=r"cannot be written \(File name too long\)"):
        build(replace(request_of, output=tmp_path / f"{'a' * 245}.engine"))
    for taken in ("b.engine", "c.engine.json"):
        (tmp_path / taken).mkdir()
        with pytest.raises(UsageError, match=f"--output: .*{taken} is a folder"):
            build(replace(request_of, output=tmp_path / taken.removesuffix(".json")))


@pytest.mark.parametrize("content", [b"", b"not ONNX", b"cut"], ids=["empty", "foreign", "cut"])
def test_a_file_that_is_no_model_is_refused(request_of: EngineRequest, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(request_of.model.read_bytes()[:-100] if content == b"cut" else content)
    with pytest.raises(IncompatibleError, match=r"broken\.onnx"):
        build(replace(request_of, model=path))
    assert not request_of.output.exists()


def test_the_model_itself_is_never_written_over(request_of: EngineRequest) -> None:
    with pytest.raises(UsageError, match="is the model itself"):
        build(replace(request_of, output=request_of.model))


def test_full_tensorrt_without_a_gpu_is_one_line(request_of: EngineRequest) -> None:
    with pytest.raises(MissingError):
        build(replace(request_of, build=BuildOptions("tensorrt")))


def command(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["build-engine", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_the_command_prints_what_was_built(request_of: EngineRequest, calibration: Path, tmp_path: Path) -> None:
    arguments = [request_of.model, "--precision", "int8", "--calibration", calibration, "--min-mask-iou", 0, "--flavour", "tensorrt-rtx"]
    code, out, err = command(*arguments, "-o", request_of.output, "--sensitivity", "--exclude", "encoder.*")
    assert code == 0, err
    assert "INT8" in out and "passed" in out and "probability moved" in out
    assert sidecar_path(request_of.output).is_file()
    code, out, _ = command(*arguments, "-o", tmp_path / "graph.onnx", "--json")
    document = json.loads(out)
    assert code == 0 and document["precision"] == "int8" and document["gate"]["passed"]


def test_the_command_ends_with_5_and_the_worst_images_where_the_gate_fails(request_of: EngineRequest, calibration: Path) -> None:
    graph = request_of.output.with_suffix(".onnx")
    code, out, err = command(request_of.model, "-o", graph, "--calibration", calibration, "--min-mask-iou", 1.0, "--precision", "int8")
    assert code == 5
    assert "worst images" in out and "FAILED" in out
    assert err.strip().splitlines()[-1].startswith("qtseg-edge: int8 is not accurate enough")
    assert not graph.exists()


@pytest.mark.parametrize("batch", ["1", "1:2", "2:1:4", "0:1:1", "a:b:c", "1:1:1:1"])
def test_a_batch_range_that_is_none_is_told(batch: str) -> None:
    code, _, err = command("--batch", batch, "--flavour", "tensorrt-rtx")
    assert code == 2 and "wanted MIN:BEST:MAX such as 1:1:8" in err


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_built_in_model_builds_with_its_own_calibration_images(tmp_path: Path, precision: str) -> None:
    code, out, err = command("-o", tmp_path / "polyp.engine", "--precision", precision, "--flavour", "tensorrt-rtx", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert precision == "fp32" or document["gate"]["mask_iou"] > {"fp16": 0.995, "int8": 0.95}[precision]


@pytest.mark.slow
@pytest.mark.parametrize("capability", RTX_COMPUTE_CAPABILITIES)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_gpu_generation_of_tensorrt_rtx_takes_fp16_and_int8(request_of: EngineRequest, precision: Precision, capability: str) -> None:
    """But 7.5, which has no FP32 matrix product: those of channel attention stay FP32 in every precision."""
    request = replace(request_of, precision=precision, build=replace(RTX, compute_capabilities=(capability,)))
    if capability == "7.5":
        with pytest.raises(QtsegError, match=r"leave out --compute-capability 7\.5: such GPUs want full TensorRT"):
            build(request)
        return
    build(request)
    assert read_sidecar(request.output).compute_capabilities == (capability,)
