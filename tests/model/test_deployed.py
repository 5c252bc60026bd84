from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qtseg_edge.model.checkpoint import load_checkpoint
from qtseg_edge.model.deployed import FrameToMask
from qtseg_edge.spec import NORMALISATIONS, Normalisation
from tests.model.authors_format import Size, write_checkpoint

Uint8 = NDArray[np.uint8]
Float = NDArray[np.float64]


class FixedLogits(nn.Module):
    """Stands in for the network: the same logits (K, H, W) for every image, and the input it was given."""

    def __init__(self, logits: Float) -> None:
        super().__init__()
        self.logits = torch.from_numpy(logits).float()
        self.seen = torch.empty(0)

    def forward(self, image: Tensor) -> Tensor:
        self.seen = image
        return self.logits.expand(len(image), *self.logits.shape)


def frames(count: int, height: int, width: int) -> Uint8:
    """(N, H, W, 3): coloured squares and a black strip at the bottom, as letterboxing leaves it."""
    squares = np.random.RandomState(10).randint(0, 256, (count, height // 8, width // 8, 3), np.uint8)
    out = squares.repeat(8, axis=1).repeat(8, axis=2)
    out[:, -8:] = 0
    return out


def deploy(logits: Float) -> tuple[Uint8, Uint8]:
    module = FrameToMask(FixedLogits(logits), len(logits), "scale")  # type: ignore[arg-type]
    mask, confidence = module(torch.zeros(1, *logits.shape[1:], 3, dtype=torch.uint8))
    assert mask.dtype == confidence.dtype == torch.uint8
    assert mask.shape == confidence.shape == (1, *logits.shape[1:])
    return mask[0].numpy(), confidence[0].numpy()


def softmax(logits: Float) -> Float:
    e = np.exp(logits - logits.max(axis=0))
    return e / e.sum(axis=0)


def assert_mask_and_confidence(mask: Uint8, confidence: Uint8, logits: Float) -> None:
    """Against argmax and softmax in float64; pixels whose two best classes are as good as equal may go either way."""
    second, best = np.sort(logits, axis=0)[-2:]
    clear = best - second > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(mask[clear], logits.argmax(axis=0)[clear])
    assert np.abs(confidence - softmax(logits).max(axis=0) * 255).max() <= 0.51


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_mask_is_the_argmax_and_confidence_its_probability(classes: int) -> None:
    logits = np.random.RandomState(classes).normal(0, 2, (classes, 32, 64))
    assert_mask_and_confidence(*deploy(logits), logits)


@pytest.mark.parametrize("classes", [2, 3])
def test_every_class_can_win_with_full_confidence(classes: int) -> None:
    for winner in range(classes):
        logits = np.full((classes, 32, 32), -5e3)
        logits[winner] = 5e3
        mask, confidence = deploy(logits)
        assert (mask == winner).all() and (confidence == 255).all()


@pytest.mark.parametrize(("classes", "probability"), [(2, 128), (3, 85), (4, 64)])
def test_a_tie_is_background_with_an_even_share(classes: int, probability: int) -> None:
    mask, confidence = deploy(np.zeros((classes, 32, 32)))
    assert (mask == 0).all() and (confidence == probability).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_confidence_is_rounded_to_nearest(classes: int) -> None:
    wanted = (np.arange(130, 250) + np.tile([0.4, -0.4], 60)) / 255  # of class 1
    logits = np.full((classes, 1, 120), -200.0)
    logits[0, 0], logits[1, 0] = np.log(1 - wanted), np.log(wanted)
    mask, confidence = deploy(logits)
    np.testing.assert_array_equal(confidence[0], np.arange(130, 250))
    assert (mask == 1).all()


@pytest.mark.parametrize("how", NORMALISATIONS)
@pytest.mark.parametrize("classes", [2, 3])
def test_frames_give_what_the_network_gives_on_normalised_frames(tmp_path: Path, classes: int, how: Normalisation) -> None:
    network = load_checkpoint(write_checkpoint(tmp_path, Size(classes=classes))).network
    images = frames(2, 64, 96)
    mask, confidence = (out.numpy() for out in FrameToMask(network, classes, how)(torch.from_numpy(images)))
    for n, image in enumerate(images):
        wide = image.astype(np.float64).transpose(2, 0, 1)
        low, high = (wide.min(), wide.max()) if how == "minmax" else (0, 255)
        x = torch.from_numpy((wide - low) / (high - low) * 2 - 1)[None].float()
        with torch.inference_mode():
            assert_mask_and_confidence(mask[n], confidence[n], network(x)[0].double().numpy())
    assert (mask[0] != mask[1]).any()


def test_channels_stay_in_rgb_order() -> None:
    network = FixedLogits(np.zeros((2, 32, 32)))
    image = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    image[..., 0], image[..., 2] = 255, 51
    FrameToMask(network, 2, "scale")(image)  # type: ignore[arg-type]
    torch.testing.assert_close(network.seen[0, :, 5, 7], torch.tensor([1.0, -1.0, -0.6]))


@pytest.mark.parametrize("how", NORMALISATIONS)
@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_a_flat_frame_gives_a_valid_answer(tmp_path: Path, how: Normalisation, level: int) -> None:
    network = load_checkpoint(write_checkpoint(tmp_path)).network
    mask, confidence = FrameToMask(network, 2, how)(torch.full((1, 64, 96, 3), level, dtype=torch.uint8))
    assert mask.max() <= 1
    assert confidence.min() >= 127, "not-a-number would be cast to 0"
    assert torch.isfinite(network(torch.full((1, 3, 64, 96), -1.0))).all()


def test_a_batch_of_frames_gives_what_each_gives_alone(tmp_path: Path) -> None:
    module = FrameToMask(load_checkpoint(write_checkpoint(tmp_path)).network, 2, "minmax")
    images = torch.from_numpy(frames(3, 64, 64))
    mask, confidence = module(images)
    for n in range(3):
        alone_mask, alone_confidence = module(images[n : n + 1])
        assert (mask[n] != alone_mask[0]).float().mean() < 0.001
        assert (confidence[n].int() - alone_confidence[0].int()).abs().max() <= 1
