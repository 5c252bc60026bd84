from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.inspection import inspect_model, inspection_document, inspection_rows
from qtseg_edge.model.checkpoint import save_checkpoint
from qtseg_edge.model.network import NetworkConfig, build_network
from qtseg_edge.runtime.devices import default_model
from qtseg_edge.runtime.engine_file import EngineSidecar, sidecar_path, write_sidecar
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx
from qtseg_edge.spec import ModelCard, ModelSpec
from tests.model.backbones import tiny_pvt, with_backbone


@pytest.fixture
def checkpoint(tmp_path: Path, card: ModelCard) -> Path:
    config = NetworkConfig(width=4, depths=(1, 1, 1), heads=2, mlp_width=8)
    save_checkpoint(tmp_path / "small.safetensors", build_network(config), config, card)
    return tmp_path / "small.safetensors"


@pytest.fixture
def engine(tmp_path: Path, card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Signed with a key of this test's own. Its plan is no plan: `inspect` must not open it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    path = tmp_path / "small.engine"
    path.write_bytes(b"any bytes")
    sidecar = EngineSidecar(
        spec=ModelSpec(card, card.size_hw, None, "c" * 64),
        plan_sha256=hashlib.sha256(b"any bytes").hexdigest(),
        plan_bytes=9,
        onnx_sha256="a" * 64,
        model_sha256="b" * 64,
        flavour="tensorrt-rtx",
        tensorrt="1.7.1.116",
        platform="linux-x86_64",
        precision="int8",
        layers={"INT8": 60, "FP16": 500, "FP32": 27},
        verified="graph",
        batches=(1, 2, 4),
        compute_capabilities=("8.6", "8.9"),
        calibration={"method": "entropy", "images": 256, "manifest_sha256": "d" * 64},
        gate={"passed": True, "dice_drop": 0.0421, "worst": [{"image": "a.jpg", "iou": 0.91}]},
    )
    write_sidecar(path, sidecar.signed())
    return path


def lines_of(text: str) -> dict[str, str]:
    """The facts above the table, by their label."""
    return {line[:12].rstrip(): line[12:].strip() for line in text.splitlines()}


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["inspect", *arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_checkpoint_shows_its_card_network_and_cost(checkpoint: Path, card: ModelCard) -> None:
    document = json.loads(printed(str(checkpoint), "--imgsz", "128", "--json"))
    assert document["kind"] == "checkpoint"
    assert document["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert document["bytes"] == checkpoint.stat().st_size
    assert document["card"] == json.loads(card.to_json())
    assert (document["network"]["encoder"], document["network"]["width"], document["network"]["encoder_config"]) == ("cnn", 4, {})
    parameters = document["parameters"]
    assert parameters["total"] == parameters["encoder"] + parameters["distribution"] + parameters["decoder"]
    assert [entry["size_hw"] for entry in document["macs"]] == [[64, 64], [128, 128]]
    assert document["layers"]["FP32"]["Conv2d"] > 50
    assert 3.5 < document["macs"][1]["encoder"] / document["macs"][0]["encoder"] < 4.5


def test_the_papers_network_in_three_decimals(tmp_path: Path, card: ModelCard) -> None:
    save_checkpoint(tmp_path / "paper.safetensors", build_network(NetworkConfig()), NetworkConfig(), card)
    lines = [line.split() for line in printed(str(tmp_path / "paper.safetensors"), "--imgsz", "512").splitlines()]
    figures = {line[0]: (line[1], line[-1]) for line in lines if "M" in line}
    assert figures == {
        "encoder": ("2.260", "1.639"),
        "distribution": ("0.279", "0.106"),
        "decoder": ("6.676", "0.814"),
        "total": ("9.215", "2.559"),
    }


def test_the_table_lines_up_and_the_texts_are_whole(checkpoint: Path, card: ModelCard) -> None:
    lines = printed(str(checkpoint)).rstrip().splitlines()
    table = lines[lines.index("") + 1 :]
    assert len({len(line.rstrip()) for line in table}) == 1
    texts = {line[:12].rstrip(): line[12:] for line in lines[: lines.index("")]}
    assert texts["model"] == "tiny"
    assert texts["classes"] == "background (RGB 0 0 0), polyp (RGB 0 200 120)"
    assert texts["input"] == "64x64, normalisation scale, threshold 0.5"
    assert texts["encoder"] == "cnn"
    assert {"data", "scores", "licence", "sha256", "network"} <= texts.keys()


def test_a_backbone_is_described_by_its_hyper_parameters(tmp_path: Path, card: ModelCard) -> None:
    config = with_backbone(tiny_pvt())
    save_checkpoint(tmp_path / "pvt.safetensors", build_network(config), config, card)
    inspection = inspect_model(tmp_path / "pvt.safetensors")
    assert inspection_document(inspection)["network"]["encoder_config"]["parameters"]["hidden_sizes"] == [8, 16, 24, 32]
    assert "encoder     pvt_v2 depths [1, 1, 1, 1], hidden_sizes [8, 16, 24, 32]" in inspection_rows(inspection)[2]


def test_the_built_in_model_is_shown_when_none_is_named() -> None:
    document = json.loads(printed("--json"))
    spec = spec_from_onnx(default_model())
    assert (document["kind"], document["size_hw"], document["batch"], document["opset"]) == ("onnx", [352, 352], 1, 19)
    assert document["checkpoint_sha256"] == spec.checkpoint_sha256
    assert document["card"] == json.loads(json.dumps(asdict(spec.card)))
    assert document["nodes"] > 500
    assert document["layers"]["FP32"]["ConvTranspose"] == 3  # those of the decoder are matrix products
    assert [(entry["size_hw"], round(entry["total"] / 1e9, 3)) for entry in document["macs"]] == [
        ([352, 352], 1.047)
    ]  # 1.215 of the checkpoint
    assert document["parameters"]["total"] == pytest.approx(9.215e6, rel=0.03)  # the checkpoint's: what is folded and what is added differs
    assert "kvasir-seg-polyp" in printed() and "1 x 352 x 352 x 3, uint8 RGB" in printed()


def test_an_onnx_file_needs_neither_torch_nor_onnx() -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
from qtseg_edge.cli import app
app(["inspect"])
"""

    def without(*packages: str) -> str:
        result = subprocess.run([sys.executable, "-W", "error", "-c", code, *packages], capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert without("torch", "onnx", "safetensors", "transformers").count("not read: pip install 'qtseg-edge[export]'") == 2
    assert "not read" not in without("torch", "safetensors", "transformers")


def test_what_other_steps_wrote_into_an_onnx_file_is_shown_whatever_it_is(tmp_path: Path) -> None:
    model = onnx.load(default_model())
    layers = {"INT8": {"Conv": 57}, "FP16": {"Add": 3, "Gemm": 9}}
    precision = {
        "precision": "int8",
        "layers": layers,
        "exclude": [],
        "calibration": {"images": 64, "method": "minmax"},
        "gate": {"passed": True, "dice_drop": 0.25},
    }
    for key, value in (("qtseg_edge.precision", json.dumps(precision)), ("remark", "of\nsomebody"), ("number", "7")):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, tmp_path / "model.onnx")
    inspection = inspect_model(tmp_path / "model.onnx")
    document = inspection_document(inspection)
    assert document["metadata"].items() >= {"qtseg_edge.precision": precision, "remark": "of\nsomebody", "number": 7}.items()
    shown = lines_of(inspection_rows(inspection)[2])
    assert shown.items() >= {"precision": "int8", "calibration": "images 64, method minmax", "gate": "passed yes, dice_drop 0.25"}.items()
    assert (shown["layers"], shown["exclude"]) == ("INT8 (Conv 57), FP16 (Add 3, Gemm 9)", "none")
    assert (shown["remark"], shown["number"]) == ("of somebody", "7")


def test_layers_are_shown_by_type_and_precision(tmp_path: Path) -> None:
    model = onnx.load(default_model())
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    given, made = softmax.input[0], softmax.output[0]
    softmax.input[0], softmax.output[0] = "narrow", "narrow_result"
    at = list(model.graph.node).index(softmax)
    before = onnx.helper.make_node("Cast", [given], ["narrow"], to=onnx.TensorProto.FLOAT16)
    after = onnx.helper.make_node("Cast", ["narrow_result"], [made], to=onnx.TensorProto.FLOAT)
    model.graph.node.insert(at, before)
    model.graph.node.insert(at + 2, after)
    onnx.save(model, tmp_path / "mixed.onnx")
    columns, rows, _ = inspection_rows(inspect_model(tmp_path / "mixed.onnx"))
    assert columns == ["layers", "FP16", "FP32"]
    counts = {row[0]: row[1:] for row in rows}
    all_float = {row[0]: int(row[1]) for row in inspection_rows(inspect_model(default_model()))[1]}
    assert counts["Softmax"] == ["1", str(all_float["Softmax"] - 1)]
    assert counts["Conv"] == ["", str(all_float["Conv"])]
    assert counts["total"] == ["1", str(all_float["total"] - 1)]


def test_an_engine_is_shown_by_the_file_beside_it(engine: Path, card: ModelCard) -> None:
    document = json.loads(printed(str(engine), "--json"))
    assert (document["kind"], document["unaltered"], document["signed_here"]) == ("engine", True, True)
    assert (document["bytes"], document["sha256"]) == (9, document["plan_sha256"])
    assert (document["flavour"], document["tensorrt"], document["compute_capabilities"]) == ("tensorrt-rtx", "1.7.1.116", ["8.6", "8.9"])
    assert (document["batches"], document["size_hw"], document["checkpoint_sha256"]) == ([1, 2, 4], [64, 64], "c" * 64)
    assert document["layers"] == {"INT8": 60, "FP16": 500, "FP32": 27}
    assert document["card"] == json.loads(card.to_json())
    assert "signature" not in document and "spec" not in document
    text = printed(str(engine))
    shown = lines_of(text)
    assert (shown["plan"], shown["signed"]) == ("as its sidecar describes it", "by this user on this machine")
    assert shown["precision"] == "int8 asked; layers counted in the graph that was built"
    assert shown["built with"] == "tensorrt-rtx 1.7.1.116, linux-x86_64"
    assert shown["GPU"] == "none was asked, compute capability 8.6, 8.9"
    assert shown["takes"] == "image: 1 to 4 (best 2) x 64 x 64 x 3, uint8 RGB"
    assert shown["calibration"] == f"images 256, manifest_sha256 {'d' * 64}, method entropy"
    assert shown["gate"] == "dice_drop 0.0421, passed yes, worst ((image a.jpg, iou 0.91))"
    assert sorted(line.split() for line in text.splitlines()[-4:]) == [["FP16", "500"], ["FP32", "27"], ["INT8", "60"], ["total", "587"]]


def test_an_engine_of_one_gpu_names_it(engine: Path) -> None:
    sidecar = inspect_model(engine).sidecar  # type: ignore[union-attr]
    orin = replace(sidecar, gpu="Orin", gpu_compute_capability="8.7", compute_capabilities=(), batches=(1, 1, 1), cuda="12.6", l4t="36.4.3")
    write_sidecar(engine, replace(orin, flavour="tensorrt", tensorrt="10.3.0", platform="linux-aarch64", verified="inspector").signed())
    shown = lines_of(inspection_rows(inspect_model(engine))[2])
    assert shown["built with"] == "tensorrt 10.3.0, linux-aarch64, CUDA 12.6, L4T 36.4.3"
    assert shown["GPU"] == "Orin, compute capability 8.7"
    assert shown["takes"] == "image: 1 x 64 x 64 x 3, uint8 RGB"
    assert shown["precision"] == "int8 asked; layers read from the engine by TensorRT's inspector"


def test_an_altered_engine_is_shown_as_altered(engine: Path) -> None:
    engine.write_bytes(b"own bytes")
    document = json.loads(printed(str(engine), "--json"))
    assert (document["unaltered"], document["signed_here"]) == (False, True)
    assert lines_of(printed(str(engine)))["plan"].startswith("ALTERED")


def test_an_altered_sidecar_or_one_of_somebody_else_is_shown_as_not_signed_here(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = sidecar_path(engine).read_text(encoding="utf-8")
    sidecar_path(engine).write_text(written.replace('"method": "entropy"', '"method": "minmax"'), encoding="utf-8")
    assert json.loads(printed(str(engine), "--json"))["signed_here"] is False
    sidecar_path(engine).write_text(written, encoding="utf-8")
    assert json.loads(printed(str(engine), "--json"))["signed_here"] is True
    monkeypatch.setenv("XDG_DATA_HOME", str(engine.parent / "elsewhere"))
    assert lines_of(printed(str(engine)))["signed"].startswith("not by this user on this machine")


def test_a_home_that_cannot_hold_a_key_signs_nothing(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (engine.parent / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_DATA_HOME", str(engine.parent / "file"))
    assert json.loads(printed(str(engine), "--json"))["signed_here"] is False


def test_an_engine_needs_neither_tensorrt_nor_torch_nor_onnx(engine: Path) -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(("torch", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda", "pycuda")))
from qtseg_edge.cli import app
app(["inspect", sys.argv[1]])
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code, str(engine)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "by this user on this machine" in result.stdout


@pytest.mark.parametrize("content", [None, "", "{}", "[1, 2]", '{"version": 99}'])
def test_an_engine_without_a_whole_sidecar_is_incompatible(engine: Path, content: str | None) -> None:
    sidecar_path(engine).unlink()
    if content is not None:
        sidecar_path(engine).write_text(content, encoding="utf-8")
    result = CliRunner().invoke(app, ["inspect", str(engine)])
    assert result.exit_code == 4
    assert "build it on this machine: qtseg-edge build-engine MODEL -o" in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "imgsz", "text"),
    [
        ("absent.onnx", None, r"absent\.onnx: no such model"),
        ("absent.safetensors", None, r"absent\.safetensors: no such checkpoint"),
        ("absent.engine", None, r"absent\.engine: no such engine; build it on this machine"),
        ("model.plan", None, r"model\.plan: wanted an \.onnx file, an engine \(\.engine\) or a checkpoint \(\.pt, \.pth, \.safetensors\)"),
        ("small.safetensors", 100, "--imgsz: wanted a multiple of 32, got 100"),
        ("small.safetensors", 0, "--imgsz: wanted a multiple of 32, got 0"),
        ("model.onnx", 352, r"--imgsz: the size of an \.onnx file is fixed"),
        ("model.engine", 352, r"--imgsz: the size of an \.engine file is fixed"),
    ],
)
def test_what_cannot_be_shown_is_refused(checkpoint: Path, name: str, imgsz: int | None, text: str) -> None:
    (checkpoint.parent / "model.plan").write_bytes(b"vtrt")
    with pytest.raises(UsageError, match=text):
        inspect_model(checkpoint.parent / name, imgsz)


def test_an_onnx_file_whose_graph_is_damaged_is_refused(tmp_path: Path) -> None:
    content = default_model().read_bytes()
    at = content.index(b"decoder.stage2")
    (tmp_path / "damaged.onnx").write_bytes(content[: at - 40] + b"\xff" * 40 + content[at:])
    with pytest.raises(IncompatibleError, match=r"damaged\.onnx: not a whole ONNX file"):
        inspect_model(tmp_path / "damaged.onnx")
