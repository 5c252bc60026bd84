from __future__ import annotations

import numpy as np
import pytest
import torch

from qtseg_edge.model.normalise import normalise
from qtseg_edge.spec import NORMALISATIONS, Normalisation


def image(seed: int, low: int, high: int) -> torch.Tensor:
    return torch.randint(low, high + 1, (1, 3, 8, 8), generator=torch.Generator().manual_seed(seed)).float()


def test_scale_maps_0_to_255_onto_minus_1_to_1() -> None:
    levels = torch.tensor([0.0, 127.5, 255.0]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(normalise(levels, "scale").flatten(), torch.tensor([-1.0, 0.0, 1.0]))


def test_minmax_stretches_over_all_channels_together() -> None:
    pixels = image(0, 30, 90)
    low, high = float(pixels.min()), float(pixels.max())
    expected = (pixels.numpy() - low) / (high - low) * 2 - 1
    np.testing.assert_allclose(normalise(pixels, "minmax").numpy(), expected, atol=1e-6)
    pixels[0, 0] += 100  # one channel moves the others
    assert normalise(pixels, "minmax")[0, 1:].max() < 0


def test_minmax_takes_every_image_by_its_own_extremes() -> None:
    batch = torch.cat([image(1, 0, 20), image(2, 100, 255)])
    expected = torch.cat([normalise(one[None], "minmax") for one in batch])
    torch.testing.assert_close(normalise(batch, "minmax"), expected, rtol=0, atol=0)
    assert [float(one.amax()) for one in expected] == [1.0, 1.0]


@pytest.mark.parametrize("how", NORMALISATIONS)
@pytest.mark.parametrize("level", [0.0, 1.0, 77.3, 255.0])
def test_a_flat_image_stays_finite_and_in_range(how: Normalisation, level: float) -> None:
    out = normalise(torch.full((2, 3, 4, 4), level), how)
    assert torch.isfinite(out).all()
    assert out.min() >= -1 and out.max() <= 1 + 1e-6


def test_a_flat_image_is_darkest_under_minmax() -> None:
    assert (normalise(torch.full((1, 3, 4, 4), 200.0), "minmax") == -1).all()


def test_one_grey_level_of_difference_is_stretched_in_full() -> None:
    pixels = torch.full((1, 3, 4, 4), 200.0)
    pixels[0, 0, 0, 0] = 201
    assert normalise(pixels, "minmax")[0, 0, 0, 0] == 1
