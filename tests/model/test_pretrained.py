"""Where an encoder comes from: a name, a folder, the hub, a checkpoint. The hub itself is never asked."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from qtseg_edge.errors import IncompatibleError, MissingError, UsageError
from qtseg_edge.model.backbone import BackboneConfig
from qtseg_edge.model.checkpoint import load_checkpoint, save_checkpoint
from qtseg_edge.model.network import NetworkConfig, QTSeg, build_network
from qtseg_edge.model.pretrained import network_with_encoder
from qtseg_edge.spec import ModelCard
from tests.model.backbones import SMALL, tiny_pvt, with_backbone, write_classifier


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny trained PVTv2 classifier. To be read only."""
    preprocessor = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    return write_classifier(tmp_path_factory.mktemp("classifier"), preprocessor=preprocessor)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub without a network, and without what an earlier run may have kept."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


def equal(network: QTSeg, other: dict[str, torch.Tensor]) -> bool:
    state = network.encoder.state_dict()
    return state.keys() == other.keys() and all(torch.equal(state[name], tensor) for name, tensor in other.items())


def saved(path: Path, config: NetworkConfig, card: ModelCard) -> Path:
    torch.manual_seed(9)
    save_checkpoint(path, build_network(config), config, card)
    return path


def test_without_words_the_papers_cnn_starts_randomly() -> None:
    network, config = network_with_encoder(SMALL)
    assert config == SMALL
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in build_network(SMALL).parameters())


@pytest.mark.parametrize("weights", [None, "again"])
def test_a_folder_gives_the_weights_and_the_normalisation_it_holds(classifier: Path, weights: str | None) -> None:
    theirs = transformers.PvtV2Backbone.from_pretrained(classifier, out_indices=[1, 2, 3]).state_dict()
    network, config = network_with_encoder(SMALL, str(classifier), str(classifier) if weights else None)
    assert equal(network, {f"backbone.{name}": tensor for name, tensor in theirs.items()})
    backbone = BackboneConfig.from_json(config.encoder, config.encoder_config)
    assert (config.encoder, backbone.mean, backbone.std) == ("pvt_v2", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_random_weights_of_a_folders_architecture(classifier: Path) -> None:
    network, config = network_with_encoder(SMALL, str(classifier), "random")
    assert config.encoder == "pvt_v2"
    assert not equal(network, network_with_encoder(SMALL, str(classifier))[0].encoder.state_dict())


@pytest.mark.usefixtures("offline")
def test_pvt_v2_b0_needs_no_network_to_start_randomly() -> None:
    network, config = network_with_encoder(SMALL, "pvt_v2_b0", "random")
    assert config == with_backbone(BackboneConfig.pvt_v2_b0())
    assert sum(p.numel() for p in network.encoder.parameters()) == 3_409_760


def test_a_trained_network_is_built_again_without_the_folder(classifier: Path, tmp_path: Path, card: ModelCard) -> None:
    network, config = network_with_encoder(SMALL, str(classifier))
    save_checkpoint(tmp_path / "a.safetensors", network, config, card)
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert loaded.config == config and str(classifier) not in config.encoder_config
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(loaded.network(image), network.eval()(image))


@pytest.mark.parametrize("backbone", [None, tiny_pvt()], ids=["cnn", "pvt"])
def test_a_checkpoint_gives_its_encoder_only(tmp_path: Path, card: ModelCard, backbone: BackboneConfig | None) -> None:
    trained = with_backbone(replace(backbone, mean=(0.3, 0.3, 0.3))) if backbone else SMALL
    path = saved(tmp_path / "trained.safetensors", trained, card)
    (tmp_path / "folder").mkdir()
    if backbone:
        transformers.PvtV2Config(**backbone.parameters).save_pretrained(tmp_path / "folder")
    encoder = str(tmp_path / "folder") if backbone else "cnn"
    other = replace(SMALL, classes=3, mlp_width=16)
    network, config = network_with_encoder(other, encoder, str(path))
    assert equal(network, load_checkpoint(path).network.encoder.state_dict())
    assert (config.classes, config.mlp_width) == (3, 16)
    assert config.encoder_config == trained.encoder_config  # its normalisation too
    assert not torch.equal(
        network.decoder.stage0.blocks[0].mlp[0].weight[:8], load_checkpoint(path).network.decoder.stage0.blocks[0].mlp[0].weight
    )  # type: ignore[union-attr, index]


def test_a_classifier_of_half_precision_gives_float32(tmp_path: Path, classifier: Path) -> None:
    folder = tmp_path / "half"
    transformers.AutoModelForImageClassification.from_pretrained(classifier).half().save_pretrained(folder)
    network, _ = network_with_encoder(SMALL, str(folder))
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_a_swin_classifier_lacks_only_the_norms_of_its_outputs(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path, "swin", embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4)
    network, _ = network_with_encoder(SMALL, str(folder))
    norms = {name: p for name, p in network.encoder.named_parameters() if "hidden_states_norms" in name}
    assert len(norms) == 6
    assert all(torch.equal(p, torch.full_like(p, float(name.endswith("weight")))) for name, p in norms.items())


def test_nothing_is_printed_and_no_setting_changed(classifier: Path, capfd: pytest.CaptureFixture[str]) -> None:
    transformers.logging.enable_progress_bar()
    before = transformers.logging.get_verbosity()
    network_with_encoder(SMALL, str(classifier))
    assert transformers.logging.get_verbosity() == before and transformers.logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


def test_pickled_weights_are_refused(tmp_path: Path, classifier: Path) -> None:
    (tmp_path / "config.json").write_bytes((classifier / "config.json").read_bytes())
    torch.save(load_file(classifier / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(IncompatibleError, match=r"wanted weights of pvt_v2 in model\.safetensors.*no file named model\.safetensors"):
        network_with_encoder(SMALL, str(tmp_path))


def rewritten(folder: Path, classifier: Path, drop: str = "", content: bytes | None = None) -> str:
    (folder / "config.json").write_bytes((classifier / "config.json").read_bytes())
    state = {name: tensor for name, tensor in load_file(classifier / "model.safetensors").items() if name != drop}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    if content is not None:
        (folder / "model.safetensors").write_bytes(content)
    return str(folder)


def test_a_missing_tensor_is_named(tmp_path: Path, classifier: Path) -> None:
    folder = rewritten(tmp_path, classifier, drop="pvt_v2.encoder.layers.1.blocks.0.attention.query.weight")
    with pytest.raises(IncompatibleError, match=r"1 tensors of pvt_v2 are missing, first encoder\.layers\.1\.blocks\.0\.attention\.query"):
        network_with_encoder(SMALL, folder)


@pytest.mark.parametrize("content", [b"", b"not one", b"\xff" * 100])
def test_a_broken_file_is_refused(tmp_path: Path, classifier: Path, content: bytes) -> None:
    with pytest.raises(IncompatibleError, match=r"wanted weights of pvt_v2 in model\.safetensors"):
        network_with_encoder(SMALL, rewritten(tmp_path, classifier, content=content))


def test_weights_of_another_size_are_refused_with_both_shapes(classifier: Path) -> None:
    with pytest.raises(IncompatibleError, match=r"does not fit --encoder pvt_v2_b0: .* wanted \(.*\), got \("):
        network_with_encoder(SMALL, "pvt_v2_b0", str(classifier))


@pytest.mark.parametrize("encoder", ["cnn", "pvt_v2_b0"])
def test_weights_of_another_kind_of_encoder_are_refused(tmp_path: Path, card: ModelCard, encoder: str) -> None:
    trained = with_backbone(tiny_pvt()) if encoder == "cnn" else SMALL
    with pytest.raises(IncompatibleError, match=f"does not fit --encoder {encoder}"):
        network_with_encoder(SMALL, encoder, str(saved(tmp_path / "a.safetensors", trained, card)))


def test_a_cnn_of_another_width_is_refused(tmp_path: Path, card: ModelCard) -> None:
    path = saved(tmp_path / "wide.safetensors", replace(SMALL, width=8), card)
    with pytest.raises(IncompatibleError, match=r"wide\.safetensors: its encoder, cnn, does not fit --encoder cnn: \d+ tensors differ"):
        network_with_encoder(SMALL, "cnn", str(path))


def test_the_cnn_takes_no_folder(classifier: Path) -> None:
    with pytest.raises(UsageError, match="the encoder cnn takes a checkpoint"):
        network_with_encoder(SMALL, "cnn", str(classifier))


@pytest.mark.parametrize(
    ("encoder", "weights", "text"),
    [
        ("pvtv2", None, "--encoder: wanted a folder .* or a hub id OWNER/NAME; got 'pvtv2'"),
        ("./no/such/folder", None, "--encoder: wanted a folder"),
        ("", "random", "--encoder: wanted a folder"),
        ("pvt_v2_b0", "pretrained", "--encoder-weights: wanted a folder"),
        ("cnn", "no-such.safetensors", "no-such.safetensors: no such checkpoint"),
    ],
)
def test_sources_that_are_none_are_refused(encoder: str, weights: str | None, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        network_with_encoder(SMALL, encoder, weights)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("encoder", ["pvt_v2_b0", "no-such-owner/no-such-model"])
def test_without_the_hub_the_folder_is_named_as_the_other_way(encoder: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(
        MissingError, match=r"hub does not give it .*hf download .* --encoder-weights FOLDER.* --encoder-weights random"
    ) as raised:
        network_with_encoder(SMALL, encoder)
    assert "\n" not in str(raised.value)
    assert time.perf_counter() - begun < 10
