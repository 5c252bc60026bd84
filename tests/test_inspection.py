from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.inspection import inspect_model, inspection_document, inspection_rows
from qtseg_edge.model.checkpoint import save_checkpoint
from qtseg_edge.model.network import NetworkConfig, build_network
from qtseg_edge.runtime.devices import default_model
from qtseg_edge.runtime.onnx_metadata import spec_from_onnx
from qtseg_edge.spec import ModelCard
from tests.model.backbones import tiny_pvt, with_backbone


@pytest.fixture
def checkpoint(tmp_path: Path, card: ModelCard) -> Path:
    config = NetworkConfig(width=4, depths=(1, 1, 1), heads=2, mlp_width=8)
    save_checkpoint(tmp_path / "small.safetensors", build_network(config), config, card)
    return tmp_path / "small.safetensors"


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
    assert "kvasir-seg-polyp" in printed() and "1 x 352 x 352 x 3, uint8 RGB" in printed()


def test_an_onnx_file_needs_neither_torch_nor_onnx() -> None:
    code = """
import sys
sys.modules.update(dict.fromkeys(("torch", "onnx", "safetensors", "transformers")))
from qtseg_edge.cli import app
app(["inspect"])
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("not read: pip install 'qtseg-edge[export]'") == 2


@pytest.mark.parametrize(
    ("name", "imgsz", "text"),
    [
        ("absent.onnx", None, r"absent\.onnx: no such model"),
        ("absent.safetensors", None, r"absent\.safetensors: no such checkpoint"),
        ("model.engine", None, r"model\.engine: wanted an \.onnx file or a checkpoint \(\.pt, \.pth, \.safetensors\)"),
        ("small.safetensors", 100, "--imgsz: wanted a multiple of 32, got 100"),
        ("small.safetensors", 0, "--imgsz: wanted a multiple of 32, got 0"),
        ("model.onnx", 352, r"--imgsz: the size of an \.onnx file is fixed"),
    ],
)
def test_what_cannot_be_shown_is_refused(checkpoint: Path, name: str, imgsz: int | None, text: str) -> None:
    (checkpoint.parent / "model.engine").write_bytes(b"vtrt")
    with pytest.raises(UsageError, match=text):
        inspect_model(checkpoint.parent / name, imgsz)


def test_an_onnx_file_whose_graph_is_damaged_is_refused(tmp_path: Path) -> None:
    content = default_model().read_bytes()
    at = content.index(b"decoder.stage2")
    (tmp_path / "damaged.onnx").write_bytes(content[: at - 40] + b"\xff" * 40 + content[at:])
    with pytest.raises(IncompatibleError, match=r"damaged\.onnx: not a whole ONNX file"):
        inspect_model(tmp_path / "damaged.onnx")
