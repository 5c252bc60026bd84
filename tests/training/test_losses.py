from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from qtseg_edge.training.losses import segmentation_loss


def certain(labels: Tensor, classes: int = 2, margin: float = 50.0) -> Tensor:
    """Logits (N, K, H, W) that are sure of the labels."""
    return torch.nn.functional.one_hot(labels, classes).permute(0, 3, 1, 2).float() * margin


def half_labelled() -> Tensor:
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[:, :2] = 1
    return labels


def test_two_classes_by_hand() -> None:
    """Two pixels, probabilities of foreground 0.8 (labelled 1) and 0.4 (labelled 0)."""
    logits = torch.tensor([[[[0.0, 0.0]], [[math.log(4), math.log(2 / 3)]]]])
    labels = torch.tensor([[[1, 0]]])
    cross_entropy = -(math.log(0.8) + math.log(0.6)) / 2
    dice = (2 * 0.8 + 1) / (0.8 + 0.4 + 1 + 1)
    assert segmentation_loss(logits, labels).item() == pytest.approx(cross_entropy + 1 - dice, rel=1e-5)


def test_three_classes_by_hand() -> None:
    """One pixel of class 2 with probabilities 0.2, 0.3, 0.5: Dice knows only foreground, 0.8."""
    logits = torch.tensor([0.2, 0.3, 0.5]).log().reshape(1, 3, 1, 1)
    loss = segmentation_loss(logits, torch.tensor([[[2]]]))
    assert loss.item() == pytest.approx(-math.log(0.5) + 1 - (2 * 0.8 + 1) / (0.8 + 1 + 1), rel=1e-5)


def test_dice_is_taken_per_image_and_then_averaged() -> None:
    """An empty image beside a large lesion must weigh as much as it does alone."""
    labels = torch.cat([half_labelled(), torch.zeros(1, 4, 4, dtype=torch.long)])
    logits = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    alone = [segmentation_loss(logits[n : n + 1], labels[n : n + 1]) for n in range(2)]
    assert segmentation_loss(logits, labels).item() == pytest.approx(sum(alone).item() / 2, rel=1e-5)  # type: ignore[union-attr]


def test_a_certain_right_answer_costs_nothing_and_a_wrong_one_much() -> None:
    labels = half_labelled()
    assert segmentation_loss(certain(labels), labels).item() == pytest.approx(0, abs=1e-6)
    assert segmentation_loss(certain(1 - labels), labels).item() > 50


def test_confusing_two_foreground_classes_costs_cross_entropy_only() -> None:
    labels = half_labelled()
    assert segmentation_loss(certain(labels * 2, classes=3, margin=20.0), labels).item() == pytest.approx(10, abs=1e-3)


@pytest.mark.parametrize("label", [0, 1], ids=["nothing labelled", "all labelled"])
@pytest.mark.parametrize("margin", [-40.0, 0.0, 40.0])
def test_loss_and_gradient_of_an_empty_or_full_mask_are_finite(label: int, margin: float) -> None:
    labels = torch.full((2, 4, 4), label)
    logits = (certain(labels) * margin / 50).requires_grad_()
    loss = segmentation_loss(logits, labels)
    loss.backward()
    assert torch.isfinite(loss) and loss >= 0
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_an_empty_image_rewards_less_foreground() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    losses = [segmentation_loss(certain(labels, margin=margin), labels).item() for margin in (-2.0, 0.0, 2.0, 6.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.1


def test_half_precision_logits_are_summed_in_float32() -> None:
    """65,536 probabilities of one half: in bfloat16 the sum would stop at 256, in float16 it would be infinite."""
    labels = torch.ones(1, 256, 256, dtype=torch.long)
    logits = torch.zeros(1, 2, 256, 256)
    loss = segmentation_loss(logits.bfloat16(), labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(segmentation_loss(logits, labels).item(), rel=1e-6)
    assert loss.item() == pytest.approx(math.log(2) + 1 / 3, rel=1e-3)
