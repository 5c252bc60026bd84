from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qtseg_edge.training.losses import segmentation_loss

WEIGHTS = ((), (0.5, 2.0, 3.0))


def slow_loss(logits: Tensor, labels: Tensor, weights: tuple[float, ...]) -> float:
    """The definition pixel by pixel, in float64: weighted mean of -log p, plus 1 - (2I + 1) / (S + 1) per image and foreground class."""
    numbers = logits.double().numpy()
    n, classes, height, width = numbers.shape
    weights = weights[:classes] or (1.0,) * classes
    entropy = weight = 0.0
    dice = []
    for image in range(n):
        shares = np.zeros((classes, height, width))
        for y in range(height):
            for x in range(width):
                exponentials = [math.exp(value) for value in numbers[image, :, y, x]]
                shares[:, y, x] = [value / sum(exponentials) for value in exponentials]
                label = int(labels[image, y, x])
                entropy -= weights[label] * math.log(shares[label, y, x])
                weight += weights[label]
        for index in range(1, classes):
            there = (labels[image] == index).numpy()
            dice.append((2 * shares[index][there].sum() + 1) / (shares[index].sum() + there.sum() + 1))
    return entropy / weight + 1 - sum(dice) / len(dice)


def certain(labels: Tensor, classes: int = 2, margin: float = 50.0) -> Tensor:
    """Logits (N, K, H, W) that are sure of the labels."""
    return torch.nn.functional.one_hot(labels, classes).permute(0, 3, 1, 2).float() * margin


def half_labelled() -> Tensor:
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[:, :2] = 1
    return labels


@given(st.integers(0, 1 << 20), st.integers(1, 3), st.integers(2, 3), st.sampled_from(WEIGHTS), st.floats(0.1, 6))
def test_equal_to_its_definition_read_slowly(seed: int, images: int, classes: int, weights: tuple[float, ...], spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(images, classes, 3, 4, generator=generator)
    labels = torch.randint(classes, (images, 3, 4), generator=generator)
    given_weights = torch.tensor(weights[:classes]) if weights else None
    assert segmentation_loss(logits, labels, given_weights).item() == pytest.approx(slow_loss(logits, labels, weights), rel=1e-5)


def test_two_classes_by_hand() -> None:
    """Two pixels, probabilities of foreground 0.8 (labelled 1) and 0.4 (labelled 0)."""
    logits = torch.tensor([[[[0.0, 0.0]], [[math.log(4), math.log(2 / 3)]]]])
    labels = torch.tensor([[[1, 0]]])
    cross_entropy = -(math.log(0.8) + math.log(0.6)) / 2
    dice = (2 * 0.8 + 1) / (0.8 + 0.4 + 1 + 1)
    assert segmentation_loss(logits, labels).item() == pytest.approx(cross_entropy + 1 - dice, rel=1e-5)


def test_three_classes_by_hand() -> None:
    """One pixel of class 2 with probabilities 0.2, 0.3, 0.5. Class 1 is not in the image and costs what is claimed of it."""
    logits = torch.tensor([0.2, 0.3, 0.5]).log().reshape(1, 3, 1, 1)
    dice = (1 / (0.3 + 1) + (2 * 0.5 + 1) / (0.5 + 1 + 1)) / 2
    assert segmentation_loss(logits, torch.tensor([[[2]]])).item() == pytest.approx(-math.log(0.5) + 1 - dice, rel=1e-5)


def test_class_weights_weigh_the_cross_entropy_by_hand() -> None:
    """The two pixels from above; the labelled one counts three times."""
    logits = torch.tensor([[[[0.0, 0.0]], [[math.log(4), math.log(2 / 3)]]]])
    cross_entropy = -(3 * math.log(0.8) + math.log(0.6)) / 4
    dice = (2 * 0.8 + 1) / (0.8 + 0.4 + 1 + 1)
    loss = segmentation_loss(logits, torch.tensor([[[1, 0]]]), torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx(cross_entropy + 1 - dice, rel=1e-5)


def test_dice_is_taken_per_image_and_then_averaged() -> None:
    """An empty image beside a large lesion must weigh as much as it does alone."""
    labels = torch.cat([half_labelled(), torch.zeros(1, 4, 4, dtype=torch.long)])
    logits = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    alone = [segmentation_loss(logits[n : n + 1], labels[n : n + 1]).item() for n in range(2)]
    assert segmentation_loss(logits, labels).item() == pytest.approx(sum(alone) / 2, rel=1e-5)


def test_a_certain_right_answer_costs_nothing_and_a_wrong_one_much() -> None:
    labels = half_labelled()
    assert segmentation_loss(certain(labels), labels).item() == pytest.approx(0, abs=1e-6)
    assert segmentation_loss(certain(1 - labels), labels).item() > 50


def test_confusing_two_foreground_classes_costs_dice_as_well() -> None:
    """Half of the image is class 1 with certainty, labelled 2: cross-entropy 20 there, and next to no overlap of either class."""
    labels = half_labelled()
    loss = segmentation_loss(certain(labels, classes=3, margin=20.0), labels * 2).item()
    assert loss == pytest.approx(10 + 1 - 1 / (8 + 1), abs=1e-3)


def test_a_class_that_is_in_no_image_costs_only_what_is_claimed_of_it() -> None:
    labels = half_labelled()
    claimed = certain(labels, classes=3)
    claimed[:, 2, 3] = 100.0  # the last row
    assert segmentation_loss(certain(labels, classes=3), labels).item() == pytest.approx(0, abs=1e-6)
    assert segmentation_loss(claimed, labels).item() > 12


@pytest.mark.parametrize("label", [0, 1], ids=["nothing labelled", "all labelled"])
@pytest.mark.parametrize("margin", [-1e4, -40.0, 0.0, 40.0, 1e4])
@pytest.mark.parametrize("classes", [2, 3])
def test_loss_and_gradient_are_finite_however_sure_the_network_is(label: int, margin: float, classes: int) -> None:
    labels = torch.full((2, 4, 4), label)
    logits = certain(labels, classes, margin).requires_grad_()
    loss = segmentation_loss(logits, labels)
    loss.backward()
    assert torch.isfinite(loss) and loss >= 0
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_an_empty_image_rewards_less_foreground() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    losses = [segmentation_loss(certain(labels, margin=margin), labels).item() for margin in (-2.0, 0.0, 2.0, 6.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_float32(dtype: torch.dtype) -> None:
    """65,536 probabilities of one half: in bfloat16 the sum would stop at 256, in float16 it would be infinite."""
    labels = torch.ones(1, 256, 256, dtype=torch.long)
    logits = torch.zeros(1, 2, 256, 256)
    loss = segmentation_loss(logits.to(dtype), labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(segmentation_loss(logits, labels).item(), rel=1e-6)
    assert loss.item() == pytest.approx(math.log(2) + 1 / 3, rel=1e-3)
