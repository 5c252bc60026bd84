from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from qtseg_edge.model.attention import Attention, ChannelAttention, SpatialAttention
from tests.model import slow_reference

THEIRS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def as_numpy(tensor: Tensor) -> slow_reference.Array:
    return tensor.detach().double().numpy()


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_equals_loops_over_heads_and_queries(heads: int) -> None:
    torch.manual_seed(1)
    attention = Attention(16, heads)
    query, key, value = random(2, 3, 16), random(2, 5, 16, seed=1), random(2, 5, 16, seed=2)
    weights = {}
    for name, parameter in attention.named_parameters():
        projection, leaf = name.split(".")
        weights[f"{THEIRS[projection]}.{leaf}"] = as_numpy(parameter)
    out = attention(query, key, value)
    for n in range(2):
        expected = slow_reference.attention(
            slow_reference.Weights(weights), as_numpy(query[n]), as_numpy(key[n]), as_numpy(value[n]), heads
        )
        np.testing.assert_allclose(as_numpy(out[n]), expected, atol=1e-6)


def test_heads_that_do_not_divide_the_inner_width_are_refused() -> None:
    with pytest.raises(ValueError, match="inner width 16 must be divisible by heads 5"):
        Attention(32, 5)


def test_spatial_attention_equals_loops_on_a_rectangle() -> None:
    torch.manual_seed(2)
    spatial = SpatialAttention()
    x = random(2, 4 * 6, 8)
    out = spatial(x, (4, 6))
    for n in range(2):
        expected = slow_reference.spatial_attention(as_numpy(spatial.conv.weight), as_numpy(x[n]), (4, 6))
        np.testing.assert_allclose(as_numpy(out[n]), expected, atol=1e-6)


def test_channel_attention_equals_loops() -> None:
    channel = ChannelAttention()
    torch.nn.init.constant_(channel.gamma, 0.7)
    x = 0.5 * random(2, 12, 8)
    out = channel(x)
    for n in range(2):
        expected = slow_reference.channel_attention(channel.gamma.item(), as_numpy(x[n]))
        np.testing.assert_allclose(as_numpy(out[n]), expected, atol=1e-6)


def test_channel_attention_starts_as_the_identity() -> None:
    x = random(1, 12, 8)
    torch.testing.assert_close(ChannelAttention()(x), x, rtol=0, atol=0)


def test_channel_attention_keeps_its_affinity_in_float32_under_autocast() -> None:
    """Affinities near 4,096 that differ by 2: half precision cannot tell them apart, and a softmax over them would be flat."""
    x = torch.ones(1, 4096, 4)
    x[0, :1, 1], x[0, :2, 2], x[0, :3, 3] = -1, -1, -1
    channel = ChannelAttention()
    torch.nn.init.ones_(channel.gamma)
    expected = slow_reference.channel_attention(1.0, as_numpy(x[0]))
    flat = as_numpy(x[0]) + as_numpy(x[0]).mean(1, keepdims=True)  # what equal weights would give
    assert np.abs(flat - expected).max() > 0.5
    with torch.autocast("cpu", torch.bfloat16):
        out = channel(x)
    np.testing.assert_allclose(as_numpy(out[0].float()), expected, atol=0.03)


def test_channel_attention_of_half_precision_maps_does_not_overflow() -> None:
    x = torch.full((1, 4096, 4), 6.0)
    x[0, :, 1] = -6.0  # affinities of +-147,456, beyond float16
    channel = ChannelAttention().half()
    torch.nn.init.ones_(channel.gamma)
    out = channel(x.half())
    assert out.dtype == torch.float16
    np.testing.assert_allclose(as_numpy(out[0]), slow_reference.channel_attention(1.0, as_numpy(x[0])), atol=0.02)
