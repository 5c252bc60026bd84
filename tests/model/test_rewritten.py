"""Every rewrite of the decoder gives what the plain one gives, at any size, batch and number of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from qtseg_edge.model.attention import Attention, ChannelAttention, SpatialAttention
from qtseg_edge.model.checkpoint import load_checkpoint
from qtseg_edge.model.decoder import DualMixBlock, DualMixDecoder, Upsample
from qtseg_edge.model.network import NetworkConfig, build_network
from qtseg_edge.model.rewritten.block import BranchScales, ChannelMixing, RewrittenBlock
from qtseg_edge.model.rewritten.decoder import RewrittenDecoder, rewritten
from qtseg_edge.model.rewritten.feature_attention import FeatureAttention
from qtseg_edge.model.rewritten.gelu import Gelu
from qtseg_edge.model.rewritten.token_attention import TokenAttention
from qtseg_edge.model.rewritten.upsampling import RowUpsample, picture_of

batches, classes = st.integers(1, 3), st.integers(2, 5)
sides = st.tuples(st.integers(1, 7), st.integers(1, 7))


@pytest.fixture(autouse=True)
def _without_gradients() -> object:
    with torch.no_grad():
        yield


def drawn(module: nn.Module, seed: int) -> nn.Module:
    """Every parameter at random, also those that begin at 0."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.eval()


def values(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 999), batch=batches, tokens=classes, pixels=st.integers(1, 30))
def test_tokens_look_at_features_without_keys_and_values(seed: int, batch: int, tokens: int, pixels: int) -> None:
    plain = drawn(Attention(32, 4), seed)
    assert isinstance(plain, Attention)
    look, query, keys = TokenAttention(plain), values(seed, batch, tokens, 32), values(seed + 1, batch, pixels, 32)
    other = values(seed + 2, batch, pixels, 32)  # keys and values need not be the same
    weights = (look.directions(query) @ keys.transpose(1, 2)).softmax(dim=2)
    torch.testing.assert_close(look.gathered(weights @ other), plain(query, keys, other), atol=2e-5, rtol=1e-4)


@given(seed=st.integers(0, 999), batch=batches, tokens=classes, pixels=st.integers(1, 30))
def test_two_attentions_of_the_same_tokens_are_one(seed: int, batch: int, tokens: int, pixels: int) -> None:
    plains = [drawn(Attention(32, 4), seed), drawn(Attention(32, 4), seed + 1)]
    both, query = TokenAttention(*plains), values(seed, batch, tokens, 32)  # type: ignore[arg-type]
    keys = [values(seed + 2, batch, pixels, 32), values(seed + 3, batch, pixels, 32)]
    rows = both.directions(query).chunk(2, dim=1)
    sums = [(row @ key.transpose(1, 2)).softmax(dim=2) @ key for row, key in zip(rows, keys, strict=True)]
    wanted = sum(plain(query, key, key) for plain, key in zip(plains, keys, strict=True))
    torch.testing.assert_close(both.gathered(torch.cat(sums, dim=1)), wanted, atol=4e-5, rtol=1e-4)


@given(seed=st.integers(0, 999), values_at=st.integers(1, 200))
def test_gelu_is_gelu(seed: int, values_at: int) -> None:
    x = values(seed, values_at) * 4
    torch.testing.assert_close(Gelu()(x), nn.functional.gelu(x), atol=1e-6, rtol=1e-5)


@given(seed=st.integers(0, 999), batch=batches, tokens=classes, pixels=st.integers(1, 30))
def test_features_look_at_tokens_without_queries(seed: int, batch: int, tokens: int, pixels: int) -> None:
    plain = drawn(Attention(32, 4), seed)
    assert isinstance(plain, Attention)
    attention, features, keys = FeatureAttention(plain, tokens), values(seed, batch, 32, pixels), values(seed + 1, batch, tokens, 32)
    looks = attention.looks(keys)
    assert looks.directions.shape[1] == (4 if tokens == 2 else 4 * tokens)
    received = attention.received(looks.directions @ features + looks.offsets, looks)
    torch.testing.assert_close(received, plain(features.transpose(1, 2), keys, keys).transpose(1, 2), atol=2e-5, rtol=1e-4)


@given(seed=st.integers(0, 999), batch=batches, size_hw=sides)
def test_the_branches_are_a_scale_and_a_mixing(seed: int, batch: int, size_hw: tuple[int, int]) -> None:
    spatial, channel = drawn(SpatialAttention(), seed), drawn(ChannelAttention(), seed)
    assert isinstance(spatial, SpatialAttention) and isinstance(channel, ChannelAttention)
    x = values(seed, batch, 16, size_hw[0] * size_hw[1])
    rows = x.transpose(1, 2)
    of_spatial, of_channel = BranchScales(spatial)(x, size_hw).unbind(dim=1)
    torch.testing.assert_close(x * of_spatial, spatial(rows, size_hw).transpose(1, 2), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(of_channel, torch.ones_like(of_channel))
    torch.testing.assert_close(x + ChannelMixing(channel)(x) @ x, channel(rows).transpose(1, 2), atol=1e-5, rtol=1e-4)


@given(seed=st.integers(0, 999), batch=batches, tokens=classes, size_hw=sides)
@settings(max_examples=40)
def test_a_block_is_the_same_block(seed: int, batch: int, tokens: int, size_hw: tuple[int, int]) -> None:
    plain = drawn(DualMixBlock(32, 4, 64), seed)
    assert isinstance(plain, DualMixBlock)
    pixels = size_hw[0] * size_hw[1]
    query, x, encoding = values(seed, batch, tokens, 32), values(seed + 1, batch, pixels, 32), values(seed + 2, 1, pixels, 32)
    wanted_tokens, wanted_x = plain(query, x, encoding, size_hw)
    got_tokens, got_x = RewrittenBlock(plain, tokens)(query, (x + encoding).transpose(1, 2), encoding.transpose(1, 2), size_hw)
    torch.testing.assert_close(got_tokens, wanted_tokens, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(got_x, (wanted_x + encoding).transpose(1, 2), atol=1e-4, rtol=1e-4)


@given(seed=st.integers(0, 999), batch=batches, size_hw=sides, times=st.integers(1, 2))
def test_upsampled_rows_are_the_upsampled_picture(seed: int, batch: int, size_hw: tuple[int, int], times: int) -> None:
    plains = [drawn(Upsample(16, 8), seed), drawn(Upsample(8, 12), seed + 1)][:times]
    x = values(seed, batch, 16, *size_hw)
    wanted, rows = x, x.flatten(2).transpose(1, 2)
    for plain in plains:
        assert isinstance(plain, Upsample)
        wanted, rows = plain(wanted), RowUpsample(plain)(rows)
    torch.testing.assert_close(picture_of(rows, size_hw, times), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("count", "batch", "size_hw"), [(2, 1, (64, 96)), (2, 3, (96, 64)), (3, 2, (64, 64)), (5, 1, (32, 160))])
def test_the_whole_network_is_the_same(count: int, batch: int, size_hw: tuple[int, int]) -> None:
    torch.manual_seed(count)
    network = build_network(NetworkConfig(classes=count)).eval()
    assert isinstance(network.decoder, DualMixDecoder)
    for module in network.modules():
        if isinstance(module, ChannelAttention):
            module.gamma.fill_(0.7)
    image = torch.rand(batch, 3, *size_hw) * 2 - 1
    before = {name: value.clone() for name, value in network.state_dict().items()}
    wanted, got = network(image), rewritten(network)(image)
    torch.testing.assert_close(got, wanted[:, 1:] - wanted[:, :1] if count == 2 else wanted, atol=2e-5, rtol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("side", [256, 352, 512])
def test_it_is_the_authors_network(reference: Path, side: int) -> None:
    network = rewritten(load_checkpoint(reference / "weight_best_dice.pt").network)
    assert isinstance(network.decoder, RewrittenDecoder)
    recorded = np.load(reference / "io.npz")
    logits = torch.from_numpy(recorded[f"logits_{side}"])
    got = network(torch.from_numpy(recorded[f"input_{side}"])[None])[0]
    assert (got[0] - (logits[1] - logits[0])).abs().max() <= 1e-4
