"""What every encoder owes the network, and what the transformers' ones are compared with: the library's own backbones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from qtseg_edge.errors import IncompatibleError
from qtseg_edge.model.backbone import IMAGENET_MEAN, IMAGENET_STD, BackboneConfig, BackboneEncoder
from qtseg_edge.model.network import NetworkConfig, QTSeg, build_encoder, build_network
from tests.model.backbones import SMALL, TINY_PVT, tiny_pvt, with_backbone, write_classifier

ENCODERS = {
    "cnn 16": NetworkConfig(),
    "cnn 32": NetworkConfig(width=32),
    "pvt_v2_b0": with_backbone(BackboneConfig.pvt_v2_b0(), NetworkConfig()),
    "tiny pvt": with_backbone(tiny_pvt()),
}
# Every stage of an architecture is looked at: focalnet has two at stride 32, the others begin with a stem.
FOREIGN: dict[str, dict[str, Any]] = {
    "swin": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4},
    "convnext": {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    "focalnet": {"embed_dim": 8, "depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]},
}


def images(count: int, height: int, width: int) -> Tensor:
    return torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def network() -> QTSeg:
    """With a tiny PVTv2; its norms have seen images."""
    torch.manual_seed(5)
    network = build_network(with_backbone(tiny_pvt())).train()
    with torch.no_grad():
        for _ in range(20):
            network(images(4, 64, 64))
    return network.eval()


@pytest.mark.parametrize("config", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("size_hw", [(224, 384), (32, 32)], ids=str)
@torch.inference_mode()
def test_features_come_at_strides_8_16_and_32(config: NetworkConfig, size_hw: tuple[int, int]) -> None:
    encoder = build_encoder(config).eval()
    features = encoder(images(2, *size_hw))
    shapes = [(2, channels, size_hw[0] // s, size_hw[1] // s) for channels, s in zip(encoder.channels, (8, 16, 32), strict=True)]
    assert [tuple(feature.shape) for feature in features] == shapes


@pytest.mark.parametrize(("name", "channels"), [("cnn 16", (64, 128, 256)), ("cnn 32", (128, 256, 512)), ("pvt_v2_b0", (64, 160, 256))])
def test_the_named_encoders_have_their_published_widths(name: str, channels: tuple[int, int, int]) -> None:
    assert build_encoder(ENCODERS[name]).channels == channels


@pytest.mark.parametrize("architecture", FOREIGN)
@torch.inference_mode()
def test_a_folder_of_any_hierarchical_backbone_gives_an_encoder(architecture: str, tmp_path: Path) -> None:
    config = transformers.CONFIG_MAPPING[architecture](**FOREIGN[architecture])
    config.save_pretrained(tmp_path)
    encoder = BackboneEncoder(BackboneConfig.from_folder(tmp_path)).eval()
    assert [feature.shape[1:] for feature in encoder(images(1, 64, 96))] == [
        (channels, 64 // s, 96 // s) for channels, s in zip(encoder.channels, (8, 16, 32), strict=True)
    ]


@torch.inference_mode()
def test_features_equal_the_librarys_own_backbone(tmp_path: Path) -> None:
    folder = write_classifier(tmp_path)
    theirs = transformers.PvtV2Backbone.from_pretrained(folder, out_indices=[1, 2, 3]).eval()
    config = BackboneConfig.from_folder(folder)
    ours = BackboneEncoder(config).eval()
    ours.backbone.load_state_dict(theirs.state_dict())
    pixels = (images(2, 64, 96) + 1) / 2  # 0..1
    prepared = (pixels - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    for mine, other in zip(ours(pixels * 2 - 1), theirs(prepared).feature_maps, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_pvt_v2_b0_is_what_the_library_builds_of_its_defaults() -> None:
    ours = build_encoder(ENCODERS["pvt_v2_b0"])
    theirs = transformers.PvtV2Config()
    parameters = BackboneConfig.pvt_v2_b0().parameters
    assert {name: list(v) if isinstance(v := getattr(theirs, name), tuple) else v for name in parameters if name != "out_indices"} == {
        name: value for name, value in parameters.items() if name != "out_indices"
    }
    assert sum(p.numel() for p in ours.parameters()) == 3_409_760


@pytest.mark.parametrize(
    ("preprocessor", "mean", "std"),
    [
        (None, IMAGENET_MEAN, IMAGENET_STD),
        ({}, IMAGENET_MEAN, IMAGENET_STD),
        ({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 1]}, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0)),
        ({"do_normalize": False}, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ],
    ids=["none", "silent", "own", "switched off"],
)
def test_pixels_reach_the_backbone_as_its_preprocessor_makes_them(
    tmp_path: Path, preprocessor: dict[str, Any] | None, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    config = BackboneConfig.from_folder(write_classifier(tmp_path, preprocessor=preprocessor))
    assert (config.mean, config.std) == (mean, std)
    encoder = BackboneEncoder(config)
    seen: list[Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    image = images(1, 32, 32)
    encoder(image)
    torch.testing.assert_close(seen[0][0], ((image[0] + 1) / 2 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))


@torch.inference_mode()
def test_a_batch_gives_what_its_images_give_alone(network: QTSeg) -> None:
    batch = images(3, 64, 96)
    alone = torch.cat([network(image[None]) for image in batch])
    assert (alone[0] - alone[1]).abs().mean() > 1e-3
    torch.testing.assert_close(network(batch), alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size_hw", [(224, 384), (96, 32)], ids=str)
@torch.inference_mode()
def test_shapes_other_than_square(network: QTSeg, size_hw: tuple[int, int]) -> None:
    assert network(images(1, *size_hw)).shape == (1, 2, *size_hw)


@pytest.mark.parametrize("name", ["tiny pvt", "swin"])
def test_gradients_reach_every_parameter_of_the_encoder(name: str, tmp_path: Path) -> None:
    config = ENCODERS.get(name)
    if config is None:
        transformers.CONFIG_MAPPING[name](**FOREIGN[name], drop_path_rate=0.0).save_pretrained(tmp_path)
        config = with_backbone(BackboneConfig.from_folder(tmp_path))
    network = build_network(config).train()
    network(images(2, 64, 64)).square().mean().backward()
    # The norm behind Swin's last stage feeds its classifier, not its feature maps.
    without = [n for n, p in network.encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert [n for n in without if not n.endswith(("swin.layernorm.weight", "swin.layernorm.bias"))] == []


def document(folder: Path, **changed: Any) -> Path:
    pvt = {"model_type": "pvt_v2", **TINY_PVT} if "model_type" not in changed else {}
    (folder / "config.json").write_text(json.dumps({**pvt, **changed}), encoding="utf-8")
    return folder


def test_what_a_configuration_says_beyond_its_hyper_parameters_is_left_out(tmp_path: Path) -> None:
    """Which code to run is never taken from a file."""
    folder = document(
        tmp_path,
        auto_map={"AutoBackbone": "evil.Evil"},
        trust_remote_code=True,
        _attn_implementation="evil/kernel",
        attn_implementation="evil/kernel",
        quantization_config={"quant_method": "evil"},
        return_dict=False,
        dtype="float16",
    )
    config = BackboneConfig.from_folder(folder)
    assert "evil" not in config.to_json()
    document(folder)
    assert config == BackboneConfig.from_folder(folder)
    built = BackboneEncoder(config).backbone
    assert type(built) is transformers.PvtV2Backbone
    assert built.config._attn_implementation == "eager"
    assert {p.dtype for p in built.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"model_type": "bert"}, "'bert' is no backbone of transformers"),
        ({"model_type": "timm_backbone", "backbone": "resnet18", "use_pretrained_backbone": True}, "'timm_backbone' is no backbone"),
        ({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}, "'evil' is no backbone"),
        ({"model_type": None}, "'None' is no backbone"),
        (
            {"model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 16},
            r"encoder dinov2: wanted features at strides 8, 16, 32, got 16",
        ),
        ({"strides": [2, 2, 2, 2]}, r"encoder pvt_v2: wanted features at strides 8, 16, 32, got 2, 4, 8, 16"),
        ({"num_channels": 1}, "encoder pvt_v2: cannot be built and run"),
        ({"num_attention_heads": [1, 2, 5, 4]}, "encoder pvt_v2: cannot be built and run .*multiple of the number of attention heads"),
        ({"hidden_sizes": [8, 16, 24, 1 << 20]}, "hidden_sizes must be a number up to 16384"),
        ({"hidden_sizes": "many"}, "no configuration of pvt_v2|cannot be built"),
        ({"hidden_act": "evil.act"}, "cannot be built and run"),
    ],
    ids=str,
)
def test_a_folder_that_is_no_such_backbone_is_refused(tmp_path: Path, changed: dict[str, Any], text: str) -> None:
    with pytest.raises(IncompatibleError, match=text):
        BackboneEncoder(BackboneConfig.from_folder(document(tmp_path, **changed)))


@pytest.mark.parametrize("text", ["{", "[]", "null", ""])
def test_a_config_json_that_is_not_readable_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(IncompatibleError, match=r"config\.json: wanted"):
        BackboneConfig.from_folder(tmp_path)


@pytest.mark.parametrize(
    "preprocessor", [{"image_mean": [0.5]}, {"image_std": [1, 1, 0]}, {"image_std": "x"}, {"image_mean": [0, 0, None]}]
)
def test_means_that_no_picture_has_are_refused(tmp_path: Path, preprocessor: dict[str, Any]) -> None:
    (document(tmp_path) / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    with pytest.raises(IncompatibleError, match="mean"):
        BackboneConfig.from_folder(tmp_path)


@pytest.mark.parametrize("outputs", [[0, 1, 2], [1, 2], [0, 1, 2, 3], [3]], ids=str)
def test_other_outputs_than_strides_8_16_32_are_refused(outputs: list[int]) -> None:
    with pytest.raises(IncompatibleError, match="wanted features at strides 8, 16, 32, got"):
        build_network(with_backbone(tiny_pvt(out_indices=outputs)))


@pytest.mark.parametrize("fields", [{"encoder": "cnn", "encoder_config": "{}"}, {"encoder": "pvt_v2"}, {"encoder": None}, {"encoder": 3}])
def test_an_encoder_and_a_configuration_that_do_not_go_together_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="encoder must be 'cnn' without encoder_config"):
        NetworkConfig(**fields)


def test_a_wider_cnn_has_wider_levels() -> None:
    network = build_network(NetworkConfig(width=8, classes=3, depths=(1, 1, 1), heads=4, mlp_width=8)).eval()
    with torch.inference_mode():
        assert network(images(1, 64, 32)).shape == (1, 3, 64, 32)
    assert build_network(SMALL).decoder.tokens.shape == (2, 64)
