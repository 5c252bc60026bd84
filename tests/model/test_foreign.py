from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from qtseg_edge.errors import IncompatibleError
from qtseg_edge.model.foreign import authors_keys, config_from_authors, state_from_authors
from qtseg_edge.model.network import NetworkConfig, build_network
from tests.model.authors_format import PAPER, TWO_CLASSES, Size, shapes, weights


def keys_of(config: NetworkConfig) -> list[str]:
    return [key for name in build_network(config).state_dict() for key in authors_keys(name, config.classes)]


def test_keys_of_the_default_network_are_the_authors(reference: Path) -> None:
    theirs = json.loads((reference / "state_dict_shapes.json").read_text(encoding="utf-8"))
    assert set(keys_of(NetworkConfig())) == set(theirs)


def test_the_tests_own_keys_and_shapes_are_the_authors(reference: Path) -> None:
    theirs = json.loads((reference / "state_dict_shapes.json").read_text(encoding="utf-8"))
    assert {key: list(shape) for key, shape in shapes(PAPER).items()} == theirs


@pytest.mark.parametrize("size", [PAPER, Size(width=4, classes=5, depths=(3, 1, 2), heads=2)], ids=["paper", "5 classes, depths 3 1 2"])
def test_every_key_is_used_once(size: Size) -> None:
    used = Counter(keys_of(NetworkConfig(size.width, size.classes, size.depths, size.heads, size.mlp_width)))
    assert used == Counter(shapes(size).keys())


def test_token_mlps_are_stacked_in_token_order_and_transposed() -> None:
    size, theirs = Size(), weights(Size())
    network = build_network(NetworkConfig(size.width, size.classes, size.depths, size.heads, size.mlp_width))
    ours = state_from_authors(theirs, network.state_dict(), Path("a.pt"))
    for token in range(3):
        assert torch.equal(ours["decoder.stage1.token_mlp.weights.2"][token], theirs[f"mask_decoder.MLP_s1.{token}.layers.2.weight"].T)
        assert torch.equal(ours["decoder.stage1.token_mlp.biases.2"][token, 0], theirs[f"mask_decoder.MLP_s1.{token}.layers.2.bias"])


def test_a_file_of_another_network_names_the_first_three_keys_and_counts_the_rest() -> None:
    ours = build_network(NetworkConfig(4, 2, (1, 1, 1), 2, 8)).state_dict()
    with pytest.raises(
        IncompatibleError, match=r"^a\.pt: lacks .+, .+, .+ and \d+ more; has unknown backbone\.w; it does not fit its cfg\.json$"
    ):
        state_from_authors({"backbone.w": torch.zeros(1)}, ours, Path("a.pt"))


def test_config_is_read_from_cfg_with_the_side_it_was_trained_at(tmp_path: Path) -> None:
    (tmp_path / "cfg.json").write_text(json.dumps(TWO_CLASSES.cfg()), encoding="utf-8")
    assert config_from_authors(tmp_path / "cfg.json") == (NetworkConfig(4, 2, (1, 1, 1), 2, 8), 64)


def test_the_references_cfg_is_the_default_network(reference: Path) -> None:
    assert config_from_authors(reference / "cfg.json") == (NetworkConfig(), 352)


def test_features_that_contradict_the_width_are_refused_with_both(tmp_path: Path) -> None:
    (tmp_path / "cfg.json").write_text(json.dumps(TWO_CLASSES.cfg() | {"encoder_out_features": [1, 2, 3]}), encoding="utf-8")
    with pytest.raises(IncompatibleError, match=r"must be \[16, 32, 64\] for n_channel 4, got \[1, 2, 3\]"):
        config_from_authors(tmp_path / "cfg.json")
