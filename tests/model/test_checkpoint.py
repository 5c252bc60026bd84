"""Our own `.safetensors` files; the authors' are in test_checkpoint_authors.py."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from qtseg_edge.errors import IncompatibleError
from qtseg_edge.model.checkpoint import NETWORK_KEY, load_checkpoint, save_checkpoint
from qtseg_edge.model.layers import ConvNormAct, UpConvNormAct, absorb_norms
from qtseg_edge.model.network import NetworkConfig, QTSeg, build_network
from qtseg_edge.spec import CARD_KEY, ModelCard
from tests.disks import small_disk

CONFIG = NetworkConfig(width=4, classes=2, depths=(1, 1, 1), heads=2, mlp_width=8)


@pytest.fixture
def network() -> QTSeg:
    torch.manual_seed(8)
    network = build_network(CONFIG)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) * 1e-4 + 1e-6)  # most of it below what float16 can tell apart
    return network


@pytest.fixture
def own(tmp_path: Path, network: QTSeg, card: ModelCard) -> Path:
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, network, CONFIG, card)
    return path


def rewritten(own: Path, header: dict[str, str], drop: str | None = None, **changed: torch.Tensor) -> Path:
    """The same file with another header or other tensors."""
    state = {name: tensor for name, tensor in (load_file(own) | changed).items() if name != drop}
    save_file(state, own, metadata=header)
    return own


def header_of(card: ModelCard, **network: Any) -> dict[str, str]:
    return {NETWORK_KEY: json.dumps(asdict(CONFIG) | network), CARD_KEY: card.to_json()}


def test_own_file_gives_back_exactly_what_was_saved(own: Path, network: QTSeg, card: ModelCard) -> None:
    loaded = load_checkpoint(own)
    assert (loaded.config, loaded.card) == (CONFIG, card)
    assert loaded.sha256 == hashlib.sha256(own.read_bytes()).hexdigest()
    assert not loaded.network.training
    expected = network.state_dict()
    assert loaded.network.state_dict().keys() == expected.keys()
    for name, tensor in loaded.network.state_dict().items():
        assert tensor.dtype == expected[name].dtype
        assert torch.equal(tensor, expected[name]), name


def test_a_network_in_channels_last_is_saved_alike(tmp_path: Path, network: QTSeg, card: ModelCard) -> None:
    expected = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_checkpoint(tmp_path / "a.safetensors", network.to(memory_format=torch.channels_last), CONFIG, card)  # type: ignore[call-overload]
    loaded = load_checkpoint(tmp_path / "a.safetensors").network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def test_half_precision_halves_the_weights_and_keeps_statistics(tmp_path: Path, own: Path, network: QTSeg, card: ModelCard) -> None:
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, network, CONFIG, card, dtype=torch.float16)
    assert half.stat().st_size < 0.7 * own.stat().st_size
    loaded = load_checkpoint(half).network.state_dict()
    for name, tensor in network.state_dict().items():
        assert loaded[name].dtype == tensor.dtype, name
        if name.startswith("decoder."):  # no batch norms there
            kept = name.endswith("gaussian")
            torch.testing.assert_close(loaded[name], tensor, rtol=0 if kept else 1e-3, atol=0 if kept else 1e-6)


def unsettled(network: nn.Module) -> nn.Module:
    """Norms of either sign and any size, one of them all but switched off."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.constant_(module.weight[:1], 1e-4)
            nn.init.normal_(module.running_mean, 0, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.2, 1.0)  # type: ignore[arg-type]
    return network


def test_absorbed_norms_change_no_result(network: QTSeg) -> None:
    unsettled(network.eval())
    absorbed = copy.deepcopy(network)
    absorb_norms(absorbed)
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(absorbed(image), network(image), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layer", [ConvNormAct(3, 8, 3), UpConvNormAct(3, 8, 2)])
def test_absorbed_norms_change_no_result_in_training_either(layer: nn.Module) -> None:
    """There the norm takes the statistics of the batch: fine-tuning such a checkpoint starts from the same function."""
    unsettled(layer.train())
    absorbed = copy.deepcopy(layer)
    absorb_norms(absorbed)
    image = torch.randn(4, 3, 16, 16)
    torch.testing.assert_close(absorbed(image), layer(image), rtol=1e-3, atol=1e-3)


def test_absorbed_norms_multiply_by_one(network: QTSeg) -> None:
    """So that folding them into float16 weights leaves those as they are."""
    absorb_norms(network)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        multiplier = norm.weight / (norm.running_var + norm.eps).sqrt()  # type: ignore[operator]
        strong = norm.weight.abs() > 0.05
        torch.testing.assert_close(multiplier[strong], torch.ones_like(multiplier[strong]), rtol=1e-5, atol=0)
    assert len(norms) == sum(isinstance(module, ConvNormAct | UpConvNormAct) for module in network.modules()) > 0


def test_saving_again_replaces_the_file_and_leaves_nothing_else(own: Path, network: QTSeg, card: ModelCard) -> None:
    save_checkpoint(own, network, CONFIG, replace(card, name="second"))
    assert load_checkpoint(own).card.name == "second"
    assert [path.name for path in own.parent.iterdir()] == [own.name]


def test_a_full_disk_leaves_no_file(tmp_path: Path, network: QTSeg, card: ModelCard) -> None:
    with small_disk(), pytest.raises(Exception, match="(?i)file too large"):
        save_checkpoint(tmp_path / "new.safetensors", network, CONFIG, card)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_file_that_was_there(own: Path, network: QTSeg, card: ModelCard) -> None:
    before = own.read_bytes()
    with small_disk(), pytest.raises(Exception, match="(?i)file too large"):
        save_checkpoint(own, network, CONFIG, replace(card, name="second"))
    assert own.read_bytes() == before
    assert list(own.parent.iterdir()) == [own]


@pytest.mark.parametrize("bytes_left", [0, 4, 100, 5_000, -1])
def test_truncated_own_file_is_refused(own: Path, bytes_left: int) -> None:
    own.write_bytes(own.read_bytes()[:bytes_left])
    with pytest.raises(IncompatibleError, match="own.safetensors: not a safetensors checkpoint"):
        load_checkpoint(own)


@pytest.mark.parametrize("missing", [NETWORK_KEY, CARD_KEY])
def test_safetensors_of_another_program_are_refused(own: Path, card: ModelCard, missing: str) -> None:
    header = {key: value for key, value in header_of(card).items() if key != missing}
    with pytest.raises(IncompatibleError, match=f"own.safetensors: safetensors without {NETWORK_KEY}"):
        load_checkpoint(rewritten(own, header))


def test_safetensors_without_any_header_are_refused(own: Path) -> None:
    save_file(load_file(own), own)
    with pytest.raises(IncompatibleError, match="only files of qtseg-edge have them"):
        load_checkpoint(own)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "null", "{}", '{"width": 4}', json.dumps(asdict(CONFIG) | {"depth": 3}), json.dumps(asdict(CONFIG) | {"depths": 3})],
)
def test_a_network_header_that_is_not_readable_is_refused(own: Path, card: ModelCard, text: str) -> None:
    with pytest.raises(IncompatibleError, match=f"{NETWORK_KEY} is not readable"):
        load_checkpoint(rewritten(own, {NETWORK_KEY: text, CARD_KEY: card.to_json()}))


@pytest.mark.parametrize(
    "field", [{"heads": 3}, {"heads": 0}, {"width": "4"}, {"width": -1}, {"classes": -2}, {"depths": [1, 1]}, {"mlp_width": None}], ids=str
)
def test_a_network_header_that_cannot_be_built_is_refused(own: Path, card: ModelCard, field: dict[str, Any]) -> None:
    with pytest.raises(IncompatibleError, match=r"own\.safetensors"):
        load_checkpoint(rewritten(own, header_of(card, **field)))


@pytest.mark.parametrize("text", ["{", "{}", "null", '{"name": "x"}'])
def test_a_card_that_is_not_readable_is_refused(own: Path, card: ModelCard, text: str) -> None:
    with pytest.raises(IncompatibleError, match="model card: not readable"):
        load_checkpoint(rewritten(own, header_of(card) | {CARD_KEY: text}))


def test_a_card_with_other_classes_than_the_network_is_refused(own: Path, card: ModelCard) -> None:
    three = replace(card, classes=("background", "a", "b"), colours_rgb=((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    with pytest.raises(IncompatibleError, match="classes"):
        load_checkpoint(rewritten(own, header_of(three)))


def test_a_missing_tensor_is_named(own: Path, card: ModelCard) -> None:
    path = rewritten(own, header_of(card), drop="decoder.stage1.positional.gaussian")
    with pytest.raises(IncompatibleError, match=r"1 keys missing, 0 unknown \(lacks decoder.stage1.positional.gaussian\)"):
        load_checkpoint(path)


def test_an_unknown_tensor_is_named(own: Path, card: ModelCard) -> None:
    path = rewritten(own, header_of(card), **{"decoder.extra": torch.zeros(1)})
    with pytest.raises(IncompatibleError, match=r"0 keys missing, 1 unknown \(has unknown decoder.extra\)"):
        load_checkpoint(path)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(own: Path, card: ModelCard) -> None:
    path = rewritten(own, header_of(card), **{"decoder.tokens": torch.zeros(3, 64)})
    with pytest.raises(IncompatibleError, match=r"first decoder.tokens: wanted \(2, 64\), got \(3, 64\)"):
        load_checkpoint(path)


@pytest.mark.parametrize("field", [{"width": 8}, {"classes": 3}, {"depths": [1, 2, 1]}, {"mlp_width": 16}], ids=str)
def test_weights_that_do_not_fit_the_header_are_refused(own: Path, card: ModelCard, field: dict[str, Any]) -> None:
    with pytest.raises(IncompatibleError, match="wrong shape|does not fit its own configuration|names 2 classes"):
        load_checkpoint(rewritten(own, header_of(card, **field)))
