from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from qtseg_edge.model.positional import PositionalEncoding
from tests.model import slow_reference


@pytest.fixture
def encoding() -> PositionalEncoding:
    torch.manual_seed(6)
    return PositionalEncoding(16)


def expected(encoding: PositionalEncoding, height: int, width: int) -> slow_reference.Array:
    return slow_reference.positional_encoding(encoding.gaussian.double().numpy(), height, width)


@pytest.mark.parametrize("size_hw", [(4, 4), (3, 7), (7, 3), (1, 1)], ids=str)
def test_encoding_equals_a_loop_over_pixels(encoding: PositionalEncoding, size_hw: tuple[int, int]) -> None:
    assert encoding(*size_hw).shape == (1, size_hw[0] * size_hw[1], 16)
    np.testing.assert_allclose(encoding(*size_hw)[0].numpy(), expected(encoding, *size_hw), atol=1e-5)


def test_encoding_is_computed_once_per_size(encoding: PositionalEncoding) -> None:
    first = encoding(3, 7)
    assert encoding(7, 3) is not first
    assert encoding(3, 7) is first


@pytest.mark.parametrize(
    "move",
    [lambda m: m.to("cpu"), lambda m: m.to(torch.float32), lambda m: m.float(), lambda m: m.cpu()],
    ids=["to device", "to dtype", "float", "cpu"],
)
def test_moving_the_module_drops_what_was_computed(encoding: PositionalEncoding, move: Callable[[PositionalEncoding], object]) -> None:
    encoding(4, 4)
    encoding.gaussian.mul_(-0.5)  # seen only by an encoding computed anew
    move(encoding)
    np.testing.assert_allclose(encoding(4, 4)[0].numpy(), expected(encoding, 4, 4), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_encoding_follows_the_type_of_the_module(encoding: PositionalEncoding, dtype: torch.dtype) -> None:
    assert encoding(4, 4).dtype == torch.float32
    assert encoding.to(dtype)(4, 4).dtype == dtype


def test_encoding_of_a_double_module_is_the_same(encoding: PositionalEncoding) -> None:
    encoding(4, 6)
    np.testing.assert_allclose(encoding.double()(4, 6)[0].numpy(), expected(encoding, 4, 6), atol=1e-5)


@pytest.mark.parametrize("assign", [False, True])
def test_loading_weights_drops_what_was_computed(encoding: PositionalEncoding, assign: bool) -> None:
    before = encoding(4, 4)
    encoding.load_state_dict({"gaussian": torch.randn(2, 8, generator=torch.Generator().manual_seed(7))}, assign=assign)
    assert (encoding(4, 4) - before).abs().max() > 0.1
    np.testing.assert_allclose(encoding(4, 4)[0].numpy(), expected(encoding, 4, 4), atol=1e-5)


def test_loading_a_parent_drops_what_was_computed(encoding: PositionalEncoding) -> None:
    parent = torch.nn.Sequential(encoding)
    encoding(4, 4)
    parent.load_state_dict({"0.gaussian": -0.5 * encoding.gaussian})
    np.testing.assert_allclose(encoding(4, 4)[0].numpy(), expected(encoding, 4, 4), atol=1e-5)


def test_encoding_first_asked_for_under_autocast_is_not_rounded(encoding: PositionalEncoding) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        inside = encoding(8, 8)
    assert inside.dtype == torch.float32
    np.testing.assert_allclose(inside[0].numpy(), expected(encoding, 8, 8), atol=1e-5)
    np.testing.assert_allclose(encoding(8, 8)[0].numpy(), expected(encoding, 8, 8), atol=1e-5)


def test_the_projection_is_saved_with_the_weights(encoding: PositionalEncoding) -> None:
    encoding(4, 4)
    assert list(encoding.state_dict()) == ["gaussian"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"gaussian"'):
        encoding.load_state_dict({})
