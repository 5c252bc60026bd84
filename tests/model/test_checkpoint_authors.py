"""Files in the authors' format, and files that only look like one."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qtseg_edge.errors import IncompatibleError, QtsegError, UsageError
from qtseg_edge.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from qtseg_edge.model.network import NetworkConfig
from tests.model.authors_format import TWO_CLASSES, Size, weights, write_checkpoint


@pytest.mark.parametrize(
    "size",
    [Size(), Size(width=4, classes=2, depths=(2, 1, 3), heads=2, mlp_width=16, side=352), Size(width=12, classes=9, heads=6)],
    ids=["8 channels", "4 channels, depths 2 1 3", "12 channels, 9 classes"],
)
def test_authors_file_of_any_size_loads(tmp_path: Path, size: Size) -> None:
    loaded = load_checkpoint(write_checkpoint(tmp_path, size))
    assert loaded.config == NetworkConfig(size.width, size.classes, size.depths, size.heads, size.mlp_width)
    assert len(loaded.card.classes) == len(set(loaded.card.colours_rgb)) == size.classes
    assert (loaded.card.name, loaded.card.size_hw, loaded.card.normalisation) == ("weight_best_dice", (size.side, size.side), "minmax")
    with torch.inference_mode():
        assert loaded.network(torch.zeros(1, 3, 32, 32)).shape == (1, size.classes, 32, 32)


def test_authors_last_file_loads_like_the_bare_state_dict(tmp_path: Path) -> None:
    bare = load_checkpoint(write_checkpoint(tmp_path))
    last = tmp_path / "weight_last.pt"
    torch.save(
        {"epoch": 3, "state_dict_model": weights(TWO_CLASSES), "optimizer": {"state": {}, "lr": [1e-3]}, "best": {"dice": 0.9}}, last
    )
    loaded = load_checkpoint(last).network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in bare.network.state_dict().items())


def test_authors_file_written_by_an_old_torch_loads(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    torch.save(weights(TWO_CLASSES), path, _use_new_zipfile_serialization=False)
    assert load_checkpoint(path).config.classes == 2


def test_authors_weights_survive_a_round_trip_through_our_format(tmp_path: Path, tiny: Checkpoint) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, tiny.network, tiny.config, tiny.card)
    loaded = load_checkpoint(path)
    assert (loaded.config, loaded.card) == (tiny.config, tiny.card)
    assert all(torch.equal(loaded.network.state_dict()[name], tensor) for name, tensor in tiny.network.state_dict().items())


@pytest.mark.parametrize("name", ["none.pt", "none.safetensors", "folder.pt"])
def test_a_missing_file_is_a_usage_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(UsageError, match=f"{name}: no such checkpoint; give a .safetensors"):
        load_checkpoint(tmp_path / name)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a checkpoint\n",
        b"hello, this text starts with a pickle opcode\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 37134783\n",
        b"<!DOCTYPE html><html>404</html>",
        b"PK\x03\x04" + bytes(200),
        np.random.RandomState(9).bytes(2000),
        pickle.dumps({"a": [1, 2, 3]}),
        pickle.dumps(b"x" * 50)[:20],
    ],
    ids=["empty", "text", "text like a pickle", "git lfs", "html", "broken zip", "random", "pickle", "cut pickle"],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = write_checkpoint(tmp_path)
    path.write_bytes(content)
    with pytest.raises(IncompatibleError, match=r"weight_best_dice\.pt: (not a checkpoint|wanted a state dict)"):
        load_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prefix=st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"h", b"("]), tail=st.binary(max_size=40))
def test_no_bytes_end_in_anything_but_our_error(tmp_path: Path, prefix: bytes, tail: bytes) -> None:
    path = tmp_path / "any.pt"
    path.write_bytes(prefix + tail)
    with pytest.raises(QtsegError, match=r"any\.pt"):
        load_checkpoint(path)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
def test_a_truncated_authors_file_is_refused(tmp_path: Path, part: float) -> None:
    path = write_checkpoint(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(IncompatibleError, match=r"weight_best_dice\.pt: not a checkpoint that can be read safely"):
        load_checkpoint(path)


class _Payload:
    """Creates a file when it is unpickled by a reader that trusts it."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return exec, (f"open({str(self.proof)!r}, 'w').close()",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "write",
    [
        lambda state, path: torch.save(state, path),
        lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
        lambda state, path: path.write_bytes(pickle.dumps(state)),
    ],
    ids=["zip", "old torch", "bare pickle"],
)
def test_code_in_a_pickle_is_never_run(tmp_path: Path, write: Callable[[Any, Path], object]) -> None:
    proof, path = tmp_path / "was-run", write_checkpoint(tmp_path)
    write({"state_dict_model": weights(TWO_CLASSES), "extra": _Payload(proof)}, path)
    with pytest.raises(IncompatibleError, match=r"weight_best_dice\.pt: not a checkpoint that can be read safely"):
        load_checkpoint(path)
    assert not proof.exists()
    if path.read_bytes()[:1] == b"\x80":
        pickle.loads(pickle.dumps(_Payload(proof)))
        assert proof.exists(), "the payload itself does nothing: this test could not fail"


@pytest.mark.parametrize(
    "content",
    [
        [torch.zeros(2)],
        torch.zeros(2),
        {},
        {"a": 1},
        {"state_dict_model": {}},
        {"state_dict_model": None},
        {"epoch": 3, "model": {}},
        "text",
    ],
    ids=["list", "tensor", "empty", "numbers", "empty inside", "none inside", "other layout", "text"],
)
def test_anything_but_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    path = write_checkpoint(tmp_path)
    torch.save(content, path)
    with pytest.raises(IncompatibleError, match=r"weight_best_dice\.pt: wanted a state dict of tensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [{0: torch.zeros(2)}, {"a": torch.zeros(2), 0: torch.zeros(2)}], ids=["numbered", "mixed"])
def test_tensors_under_numbers_are_refused(tmp_path: Path, content: object) -> None:
    path = write_checkpoint(tmp_path)
    torch.save(content, path)
    with pytest.raises(IncompatibleError, match=r"weight_best_dice\.pt"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "key",
    [
        "mask_decoder.PE_s1.positional_encoding_gaussian_matrix",
        "mask_decoder.MLP_s0.1.layers.2.bias",
        "image_encoder.conv_0.bn.running_var",
        "bridge.neck_0_2.conv_transpose.weight",
    ],
)
def test_a_key_the_authors_file_lacks_is_named(tmp_path: Path, key: str) -> None:
    path, state = write_checkpoint(tmp_path), weights(TWO_CLASSES)
    del state[key]
    torch.save(state, path)
    with pytest.raises(IncompatibleError, match=f"lacks {key}; it does not fit its cfg.json"):
        load_checkpoint(path)


def test_a_key_nobody_knows_is_named(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    torch.save(weights(TWO_CLASSES) | {"mask_decoder.extra": torch.zeros(1)}, path)
    with pytest.raises(IncompatibleError, match="has unknown mask_decoder.extra; it does not fit its cfg.json"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("key", "shape", "name"),
    [
        ("image_encoder.conv_0.conv.weight", (4, 1, 3, 3), "encoder.stem.0.conv.weight"),
        ("mask_decoder.PE_s0.positional_encoding_gaussian_matrix", (2, 16), "decoder.stage0.positional.gaussian"),
        ("mask_decoder.MLP_s0.1.layers.0.weight", (8, 16), "decoder.stage0.token_mlp.weights.0"),
        ("mask_decoder.MLP_s0.0.layers.1.bias", (15,), "decoder.stage0.token_mlp.biases.1"),
        ("mask_decoder.mask_tokens.weight", (3, 64), "decoder.tokens"),
    ],
)
def test_a_shape_that_does_not_fit_is_named(tmp_path: Path, key: str, shape: tuple[int, ...], name: str) -> None:
    path = write_checkpoint(tmp_path)
    torch.save(weights(TWO_CLASSES) | {key: torch.zeros(shape)}, path)
    with pytest.raises(IncompatibleError, match=f"1 tensors of the wrong shape, first {name}: wanted"):
        load_checkpoint(path)


@pytest.mark.parametrize("shape", [(), (0,), (16, 16), (1, 16)], ids=str)
def test_token_mlp_biases_of_an_odd_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_checkpoint(tmp_path)
    both = {f"mask_decoder.MLP_s0.{token}.layers.0.bias": torch.zeros(shape) for token in range(2)}
    torch.save(weights(TWO_CLASSES) | both, path)
    with pytest.raises(IncompatibleError, match=r"weight_best_dice\.pt"):
        load_checkpoint(path)


def test_an_authors_file_without_cfg_is_refused(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path)
    path.with_name("cfg.json").unlink()
    with pytest.raises(IncompatibleError, match=r"cfg\.json: not there; an authors' checkpoint needs its cfg\.json beside it"):
        load_checkpoint(path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b"{}"], ids=repr)
def test_a_cfg_that_is_not_readable_is_refused(tmp_path: Path, text: bytes) -> None:
    path = write_checkpoint(tmp_path)
    path.with_name("cfg.json").write_bytes(text)
    with pytest.raises(IncompatibleError, match=r"cfg\.json: wanted JSON with n_channel, num_classes"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "field", ["n_channel", "num_classes", "encoder_out_features", "mask_depths", "mask_num_head", "mask_mlp_dim", "img_size"]
)
@pytest.mark.parametrize("value", ["left out", None, "many", [1]], ids=repr)
def test_a_cfg_field_of_another_kind_is_refused(tmp_path: Path, field: str, value: object) -> None:
    path = write_checkpoint(tmp_path)
    cfg = TWO_CLASSES.cfg() | {field: value}
    if value == "left out":
        del cfg[field]
    path.with_name("cfg.json").write_text(json.dumps(cfg), encoding="utf-8")
    with pytest.raises(IncompatibleError, match=r"cfg\.json"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        {"n_channel": 8, "encoder_out_features": [32, 64, 128]},
        {"num_classes": 3},
        {"mask_depths": [1, 1, 2]},
        {"mask_mlp_dim": 64},
        {"encoder_out_features": [64, 128, 256]},
        {"img_size": 350},
        {"num_classes": 1},
        {"num_classes": 0},
        {"num_classes": -1},
        {"mask_num_head": 3},
        {"mask_num_head": 0},
        {"n_channel": -8, "encoder_out_features": [-32, -64, -128]},
        {"mask_mlp_dim": -1},
        {"img_size": float("inf")},
    ],
    ids=str,
)
def test_a_cfg_that_does_not_fit_its_weights_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write_checkpoint(tmp_path)
    path.with_name("cfg.json").write_text(json.dumps(TWO_CLASSES.cfg() | change), encoding="utf-8")
    with pytest.raises(IncompatibleError, match=r"cfg\.json|weight_best_dice\.pt|model card"):
        load_checkpoint(path)
