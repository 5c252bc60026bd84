from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qtseg_edge.model.checkpoint import Checkpoint
from qtseg_edge.model.decoder import PerTokenMlp
from tests.model import slow_reference
from tests.model.authors_format import Size, weights


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def theirs() -> slow_reference.Weights:
    return slow_reference.Weights({key: tensor.double().numpy() for key, tensor in weights(Size()).items()}, "mask_decoder.")


def test_dual_mix_block_equals_loops_on_a_rectangle(tiny: Checkpoint) -> None:
    size_hw, channels = (3, 5), 4 * Size().width
    tokens, x, encoding = random(2, 3, channels), random(2, 15, channels).flip(1), random(1, 15, channels).sin()
    new_tokens, new_x = tiny.network.decoder.stage0.blocks[0](tokens, x, encoding, size_hw)
    block = theirs() / "DMAB_s0" / "layers" / 0
    for n in range(2):
        arrays = [tensor.double().numpy() for tensor in (tokens[n], x[n], encoding[0])]
        expected_tokens, expected_x = slow_reference.dual_mix_block(block, *arrays, size_hw, Size().heads)
        np.testing.assert_allclose(new_tokens[n].detach().numpy(), expected_tokens, atol=2e-5)
        np.testing.assert_allclose(new_x[n].detach().numpy(), expected_x, atol=2e-5)


def test_stages_with_one_and_two_blocks_equal_loops(tiny: Checkpoint) -> None:
    for level, stage in [(0, tiny.network.decoder.stage0), (2, tiny.network.decoder.stage2)]:
        channels = stage.last_norm.normalized_shape[0]
        tokens, features = random(1, 3, channels), random(1, channels, 2, 4)
        down, up = stage(tokens, features)
        expected_down, expected_up = slow_reference.stage(
            theirs(), level, tokens[0].double().numpy(), features[0].double().numpy(), Size().heads
        )
        np.testing.assert_allclose(down[0].detach().numpy(), expected_down, atol=2e-5)
        np.testing.assert_allclose(up[0].detach().numpy(), expected_up, atol=2e-5)


def test_every_token_has_an_mlp_of_its_own() -> None:
    torch.manual_seed(4)
    mlp = PerTokenMlp(tokens=3, channels=8, out_channels=4)
    same = random(1, 1, 8).expand(1, 3, 8)
    out = mlp(same)
    assert out.shape == (1, 3, 4)
    assert (out[0, 0] - out[0, 1]).abs().max() > 0.01
    with torch.no_grad():
        mlp.biases[2][1] += 1.0
    np.testing.assert_allclose((mlp(same) - out).detach().numpy(), np.array([[[0] * 4, [1] * 4, [0] * 4]]), atol=1e-6)


def test_a_new_mlp_is_drawn_as_linear_layers_are() -> None:
    torch.manual_seed(5)
    mlp = PerTokenMlp(tokens=2, channels=64, out_channels=16)
    for parameter in mlp.parameters():
        assert 0.9 / 8 < parameter.abs().max() <= 1 / 8 or parameter.numel() < 100
        assert abs(parameter.mean()) < 0.05
