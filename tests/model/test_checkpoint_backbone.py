"""Checkpoints of networks with a transformers backbone: what their header may say, and what of older headers still counts."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from qtseg_edge.cli import app
from qtseg_edge.errors import IncompatibleError
from qtseg_edge.model.backbone import BackboneConfig
from qtseg_edge.model.checkpoint import NETWORK_KEY, load_checkpoint, save_checkpoint
from qtseg_edge.model.network import QTSeg, build_network
from qtseg_edge.spec import CARD_KEY, ModelCard
from tests.model.backbones import SMALL, tiny_pvt, with_backbone

CONFIG = with_backbone(tiny_pvt())


@pytest.fixture
def network() -> QTSeg:
    torch.manual_seed(8)
    return build_network(CONFIG)


@pytest.fixture
def own(tmp_path: Path, network: QTSeg, card: ModelCard) -> Path:
    save_checkpoint(tmp_path / "own.safetensors", network, CONFIG, card)
    return tmp_path / "own.safetensors"


def with_header(own: Path, card: ModelCard, network: dict[str, Any], **changed: torch.Tensor) -> Path:
    save_file(load_file(own) | changed, own, metadata={NETWORK_KEY: json.dumps(network), CARD_KEY: card.to_json()})
    return own


def backbone_text(**changed: Any) -> str:
    return json.dumps(json.loads(CONFIG.encoder_config) | changed)


def test_own_file_gives_back_exactly_what_was_saved(own: Path, network: QTSeg, card: ModelCard) -> None:
    loaded = load_checkpoint(own)
    assert (loaded.config, loaded.card) == (CONFIG, card)
    expected = network.state_dict()
    assert loaded.network.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.network.state_dict().items())
    assert not any(name.endswith(("scale", "shift")) for name in expected)  # constants, made from the header


def test_half_precision_keeps_the_backbones_norms(tmp_path: Path, network: QTSeg, card: ModelCard) -> None:
    save_checkpoint(tmp_path / "half.safetensors", network, CONFIG, card, dtype=torch.float16)
    state = load_file(tmp_path / "half.safetensors")
    norms = {name: tensor.dtype for name, tensor in state.items() if "backbone" in name and "layer_norm" in name}
    assert len(norms) > 10 and set(norms.values()) == {torch.float32}
    assert state["encoder.backbone.encoder.layers.0.patch_embedding.proj.weight"].dtype == torch.float16
    load_checkpoint(tmp_path / "half.safetensors")


def test_a_header_from_before_there_were_encoders_means_the_cnn(tmp_path: Path, card: ModelCard) -> None:
    path = tmp_path / "old.safetensors"
    save_checkpoint(path, build_network(SMALL), SMALL, card)
    old = {name: value for name, value in asdict(SMALL).items() if not name.startswith("encoder")}
    assert load_checkpoint(with_header(path, card, old)).config == SMALL


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"encoder": "cnn"}, "encoder must be 'cnn' without encoder_config"),
        ({"encoder_config": ""}, "encoder must be 'cnn' without encoder_config"),
        ({"encoder_config": {}}, "encoder must be 'cnn' without encoder_config"),
        ({"encoder": "bert"}, "'bert' is no backbone of transformers"),
        ({"encoder": "timm_backbone"}, "'timm_backbone' is no backbone"),
        ({"encoder": "swin"}, "encoder swin: .* is no hyper-parameter of it"),
        ({"encoder_config": "{"}, "its configuration is not readable"),
        ({"encoder_config": "[]"}, "its configuration is not readable"),
        ({"encoder_config": "{}"}, "its configuration is not readable"),
        ({"encoder_config": backbone_text(trust_remote_code=True)}, "its configuration is not readable .*trust_remote_code"),
        ({"encoder_config": backbone_text(transformers="5; rm")}, "wanted a version of transformers, got '5; rm'"),
        ({"encoder_config": backbone_text(transformers=5)}, "its configuration is not readable"),
        ({"encoder_config": backbone_text(mean=[0.5])}, "its configuration is not readable|wanted mean and std"),
        ({"encoder_config": backbone_text(std=[0, 1, 1])}, "wanted mean and std of three channels"),
        ({"encoder_config": backbone_text(mean=["a", "b", "c"])}, "its configuration is not readable"),
        ({"encoder_config": backbone_text(parameters=tiny_pvt().parameters | {"auto_map": "evil.Evil"})}, "auto_map is no hyper-parameter"),
        (
            {"encoder_config": backbone_text(parameters=tiny_pvt().parameters | {"_attn_implementation": "evil/kernel"})},
            "_attn_implementation is no hyper-parameter",
        ),
        ({"encoder_config": backbone_text(parameters=tiny_pvt().parameters | {"image_size": {"a": 1}})}, "image_size must be a number"),
        (
            {"encoder_config": backbone_text(parameters=tiny_pvt().parameters | {"out_indices": [0, 1, 2]})},
            "strides 8, 16, 32, got 4, 8, 16",
        ),
        (
            {"encoder_config": backbone_text(parameters=tiny_pvt().parameters | {"strides": [4, 2, 2, 4]})},
            "strides 8, 16, 32, got 8, 16, 64",
        ),
    ],
    ids=str,
)
def test_a_header_that_describes_no_such_encoder_is_refused(own: Path, card: ModelCard, fields: dict[str, Any], text: str) -> None:
    with pytest.raises(IncompatibleError, match=rf"own\.safetensors: .*{text}"):
        load_checkpoint(with_header(own, card, asdict(CONFIG) | fields))


def test_a_missing_an_unknown_and_a_misshapen_tensor_are_named(own: Path, card: ModelCard) -> None:
    state = load_file(own)
    name = "encoder.backbone.encoder.layers.0.patch_embedding.proj.weight"
    header = {NETWORK_KEY: json.dumps(asdict(CONFIG)), CARD_KEY: card.to_json()}
    for changed, text in [
        ({key: tensor for key, tensor in state.items() if key != name}, f"1 keys missing, 0 unknown .lacks {name}"),
        (state | {"encoder.scale": torch.zeros(1, 3, 1, 1)}, "0 keys missing, 1 unknown .has unknown encoder.scale"),
        (state | {name: torch.zeros(8, 3, 3, 3)}, rf"first {name}: wanted \(8, 3, 7, 7\), got \(8, 3, 3, 3\)"),
    ]:
        save_file(changed, own, metadata=header)
        with pytest.raises(IncompatibleError, match=text) as raised:
            load_checkpoint(own)
        assert "pip install transformers==" not in str(raised.value)  # it was written with the version that is here


def test_names_of_another_version_come_with_the_version_that_wrote_them(own: Path, card: ModelCard) -> None:
    renamed = asdict(CONFIG) | {"encoder_config": backbone_text(transformers="4.0.1")}
    path = with_header(own, card, renamed, **{"encoder.backbone.old_name": torch.zeros(1)})
    with pytest.raises(IncompatibleError, match=r"pip install transformers==4\.0\.1"):
        load_checkpoint(path)


def test_weights_of_the_cnn_do_not_fit_a_backbones_header(tmp_path: Path, card: ModelCard) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, build_network(SMALL), SMALL, card)
    with pytest.raises(IncompatibleError, match="does not fit its own configuration"):
        load_checkpoint(with_header(path, card, asdict(CONFIG)))


def test_the_largest_claims_cost_no_memory(own: Path, card: ModelCard) -> None:
    huge = tiny_pvt(hidden_sizes=[16000, 16000, 16000, 16000], num_attention_heads=[1, 1, 1, 1])
    with pytest.raises(IncompatibleError, match="tensors of the wrong shape"):
        load_checkpoint(with_header(own, card, asdict(with_backbone(huge))))


@pytest.fixture
def no_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "qtseg_edge.model.backbone")


@pytest.mark.usefixtures("own", "no_transformers")
def test_without_transformers_the_extra_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "own.safetensors")])
    assert result.exit_code == 3
    assert result.stderr == "qtseg-edge: transformers is not installed; get it with: pip install 'qtseg-edge[vit]'\n"


@pytest.mark.usefixtures("no_transformers")
def test_without_transformers_the_cnn_still_loads(tmp_path: Path, card: ModelCard) -> None:
    save_checkpoint(tmp_path / "cnn.safetensors", build_network(SMALL), SMALL, card)
    assert load_checkpoint(tmp_path / "cnn.safetensors").config == SMALL


def test_a_configuration_survives_its_text() -> None:
    config = BackboneConfig("pvt_v2", {"depths": [1, 1, 1, 1]}, (0.1, 0.2, 0.3), (1.0, 0.5, 0.25), "5.1.0")
    assert BackboneConfig.from_json("pvt_v2", config.to_json()) == config
