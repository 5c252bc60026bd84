from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from qtseg_edge.errors import QtsegError
from qtseg_edge.model.checkpoint import load_checkpoint
from qtseg_edge.training.config import TrainConfig
from qtseg_edge.training.fit import Fit, compute_dtype, rate
from qtseg_edge.training.images import Images
from tests.training.discs import ALONE, QUICK

PLAIN = replace(QUICK, precision="fp32", augment=0.0, endoscope=0.0, empty_share=0.0)
MakeFit = Callable[..., Fit]


@pytest.fixture
def images(data: Path) -> Images:
    return Images.read(data / "train", 64, 2)


@pytest.fixture
def make(start: Path) -> MakeFit:
    def fit(config: TrainConfig = PLAIN, steps: int = 2) -> Fit:
        return Fit(load_checkpoint(start).network, config, steps, ALONE)

    return fit


def ignore(loss: float) -> None:
    pass


def weights(fit: Fit) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in fit.network.named_parameters()}


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


# --- the learning rate --------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 100), st.integers(1, 2000))
def test_the_rate_rises_to_its_peak_and_falls_to_a_hundredth(percent: int, steps: int) -> None:
    warmup = percent / 100
    rates = [rate((step + 1) / steps, warmup) for step in range(steps)]
    peak = rates.index(max(rates))
    assert all(0 < value <= 1 for value in rates)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert abs((peak + 1) / steps - warmup) <= 1 / steps
    assert rates[-1] == (pytest.approx(0.01) if warmup < 1 else 1.0)


def test_the_rate_is_linear_then_a_cosine() -> None:
    assert [rate(progress, 0.2) for progress in (0.05, 0.1, 0.2)] == pytest.approx([0.25, 0.5, 1.0])
    assert rate(0.6, 0.2) == pytest.approx((1 + 0.01) / 2), "halfway down"
    assert rate(1.0, 0.2) == pytest.approx(0.01)


def test_without_warm_up_the_rate_only_falls() -> None:
    assert rate(0.0, 0.0) == 1.0
    assert rate(0.01, 0.0) < 1.0


@pytest.mark.parametrize("warmup", [0.0, 0.15, 1.0])
def test_every_step_of_a_run_has_its_rate(make: MakeFit, images: Images, warmup: float) -> None:
    fit = make(replace(PLAIN, epochs=3, warmup=warmup, lr=1e-4))
    used: list[float] = []
    fit.optimiser.register_step_pre_hook(lambda optimiser, *_: used.append(optimiser.param_groups[0]["lr"]))
    for epoch in range(3):
        fit.epoch(epoch, images, ignore)
    assert used == pytest.approx([1e-4 * rate(step / 6, warmup) for step in range(1, 7)])


# --- what is updated ----------------------------------------------------------------------------------------------------------------


def test_matrices_decay_and_norms_and_biases_do_not(make: MakeFit) -> None:
    fit = make(replace(PLAIN, weight_decay=0.3))
    decays = {id(p): group["weight_decay"] for group in fit.optimiser.param_groups for p in group["params"]}
    seen = [p for group in fit.optimiser.param_groups for p in group["params"]]
    assert len(seen) == len(decays) == len(list(fit.network.parameters())), "each exactly once"
    for name, parameter in fit.network.named_parameters():
        assert decays[id(parameter)] == (0.3 if parameter.dim() > 1 else 0.0), name
    named = dict(fit.network.named_parameters())
    assert decays[id(named["encoder.stem.0.conv.weight"])] == 0.3
    assert decays[id(named["encoder.stem.0.norm.weight"])] == decays[id(named["encoder.stem.0.norm.bias"])] == 0.0


def test_a_frozen_encoder_begins_to_learn_after_its_epochs(make: MakeFit, images: Images) -> None:
    fit = make(replace(PLAIN, freeze_epochs=2, epochs=3))
    states = [weights(fit)]
    for epoch in range(3):
        fit.epoch(epoch, images, ignore)
        states.append(weights(fit))
    encoder = {name for name in states[0] if name.startswith("encoder.")}
    assert moved(states[0], states[2]).isdisjoint(encoder)
    assert len(moved(states[0], states[1])) > 0.9 * (len(states[0]) - len(encoder)), "the others learn"
    assert len(moved(states[2], states[3]) & encoder) > 0.9 * len(encoder)


def test_the_gradients_are_clipped_together(make: MakeFit, images: Images) -> None:
    norms = {}
    for clip in (1e-3, 1e3):
        fit = make(replace(PLAIN, clip=clip))
        seen: list[float] = []
        fit.optimiser.register_step_pre_hook(lambda optimiser, *_, fit=fit, seen=seen: seen.append(total_norm(fit)))
        fit.epoch(0, images, ignore)
        norms[clip] = seen[0]
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert 1e-2 < norms[1e3] < 1e3, "what was cut off was there, and a norm below the limit is left alone"


def total_norm(fit: Fit, without: str = "none") -> float:
    learning = [p for name, p in fit.network.named_parameters() if not name.startswith(without)]
    return math.sqrt(sum(float(p.grad.square().sum()) for p in learning if p.grad is not None))


def test_gradients_of_a_frozen_encoder_take_nothing_from_the_others(make: MakeFit, images: Images) -> None:
    fit, norms = make(replace(PLAIN, clip=1e-3, freeze_epochs=1)), list[float]()
    fit.optimiser.register_step_pre_hook(lambda *_: norms.append(total_norm(fit, without="encoder.")))
    fit.epoch(0, images, ignore)
    assert norms == pytest.approx([1e-3] * 2, rel=1e-3)


def test_two_passes_of_a_step_give_the_mean_of_their_gradients(make: MakeFit, images: Images) -> None:
    """A rate so small that no weight moves lets two steps of one pass tell the gradients of both passes of one step."""
    one_pass = make(replace(QUICK, precision="fp32", lr=1e-30, clip=1e9), steps=2)
    two_passes = make(replace(QUICK, precision="fp32", lr=1e-30, clip=1e9, accumulate=2), steps=1)
    alone, together = gradients_of_steps(one_pass, images), gradients_of_steps(two_passes, images)
    assert (len(alone), len(together)) == (2, 1)
    for name, gradient in together[0].items():
        torch.testing.assert_close(gradient, (alone[0][name] + alone[1][name]) / 2, rtol=1e-4, atol=1e-7, msg=name)
    assert any(not torch.allclose(alone[0][name], alone[1][name], rtol=0.1) for name in alone[0]), "the passes differ"


def gradients_of_steps(fit: Fit, images: Images) -> list[dict[str, Tensor]]:
    seen: list[dict[str, Tensor]] = []

    def remember(*_: object) -> None:
        seen.append({name: p.grad.detach().clone() for name, p in fit.network.named_parameters() if p.grad is not None})

    fit.optimiser.register_step_pre_hook(remember)
    fit.epoch(0, images, ignore)
    return seen


def test_the_loss_of_an_epoch_is_the_mean_of_its_steps(make: MakeFit, images: Images) -> None:
    losses: list[float] = []
    assert make().epoch(0, images, losses.append) == pytest.approx(sum(losses) / 2)
    assert len(losses) == 2 and losses[0] != losses[1]


def test_class_weights_change_what_is_learnt(make: MakeFit, images: Images) -> None:
    losses = [make(replace(PLAIN, class_weights=chosen)).epoch(0, images, ignore) for chosen in ((), (1.0, 1.0), (1.0, 20.0))]
    assert losses[0] == losses[1] != losses[2]


def test_every_image_is_seen_once_per_epoch_in_an_order_of_its_own(make: MakeFit, images: Images) -> None:
    """A weight that is not a number stops each first batch; its names tell the order."""
    fit, orders = make(replace(PLAIN, batch=4), steps=1), []
    poison(fit)
    for epoch in range(6):
        with pytest.raises(QtsegError, match=f"the loss became nan in epoch {epoch}, batch 0 ") as caught:
            fit.epoch(epoch, images, ignore)
        names = str(caught.value).split("(")[1].split(")")[0].split(", ")
        assert sorted(names) == sorted(images.names)
        orders.append(tuple(names))
    assert len(set(orders)) > 2


def test_a_loss_that_is_not_finite_names_the_images_of_its_own_batch(make: MakeFit, images: Images) -> None:
    named = []
    for batch in (0, 1):
        fit = make()
        poison(fit, now=batch == 0)
        with pytest.raises(QtsegError, match=r"\((\w+\.png), (\w+\.png)\): look at these images, or lower --lr") as caught:
            fit.epoch(0, images, lambda loss, fit=fit: poison(fit))  # type: ignore[misc]
        assert f"in epoch 0, batch {batch} " in str(caught.value)
        named += str(caught.value).split("(")[1].split(")")[0].split(", ")
    assert sorted(named) == sorted(images.names)


def poison(fit: Fit, now: bool = True) -> None:
    if now:
        with torch.no_grad():
            next(fit.network.parameters()).fill_(math.nan)


# --- averaged weights ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99])
def test_averaged_weights_follow_their_definition(make: MakeFit, images: Images, decay: float) -> None:
    """The first are taken as they are; then a += (1 - d) (w - a), d = min(decay, (1 + n) / (10 + n)) after n updates."""
    fit = make(replace(PLAIN, ema=decay), steps=2)
    history: list[dict[str, Tensor]] = []
    for epoch in range(2):
        fit.epoch(epoch, images, lambda loss: history.append(weights(fit)))
    slow = history[0]
    for seen, current in enumerate(history[1:], 1):
        share = 1 - min(decay, (1 + seen) / (10 + seen))
        slow = {name: slow[name] + share * (current[name] - slow[name]) for name in slow}
    for name, parameter in fit.averaged.module.named_parameters():
        torch.testing.assert_close(parameter.detach(), slow[name], rtol=1e-5, atol=1e-7, msg=name)
    if decay:
        assert moved(slow, history[-1])


def test_averaged_weights_have_statistics_of_their_own_and_leave_the_trained_ones_alone(make: MakeFit, images: Images) -> None:
    fit = make(replace(PLAIN, ema=0.9))
    fit.epoch(0, images, ignore)
    kept = {name: tensor.clone() for name, tensor in fit.network.state_dict().items()}
    averaged = fit.averaged_network(images)
    assert not averaged.training and fit.network.training
    assert all(torch.equal(tensor, kept[name]) for name, tensor in fit.network.state_dict().items())
    first = averaged.encoder.stem[0]  # type: ignore[union-attr, index]
    seen = first.conv(images.frames.permute(0, 3, 1, 2).float() / 127.5 - 1)
    torch.testing.assert_close(first.norm.running_mean, seen.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)


# --- precision and memory -----------------------------------------------------------------------------------------------------------


def test_the_type_that_is_computed_in() -> None:
    cpu = torch.device("cpu")
    assert [compute_dtype(name, cpu) for name in ("fp32", "bf16", "fp16")] == [torch.float32, torch.bfloat16, torch.float16]
    assert compute_dtype("auto", cpu) in (torch.float32, torch.bfloat16), "no CPU multiplies float16 well"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_each_precision_is_computed_in_and_learns_with_weights_in_float32(
    make: MakeFit, images: Images, precision: str, dtype: torch.dtype
) -> None:
    fit = make(replace(PLAIN, precision=precision))
    seen: list[torch.dtype] = []
    fit.network.encoder.stem[0].conv.register_forward_hook(lambda module, given, result: seen.append(result.dtype))  # type: ignore[union-attr, index]
    before = weights(fit)
    losses = [fit.epoch(epoch, images, ignore) for epoch in range(3)]  # the first steps in float16 only find the scale of its loss
    assert all(math.isfinite(loss) for loss in losses)
    assert set(seen) == {dtype}
    after = weights(fit)
    assert len(moved(before, after)) > 0.9 * len(before)
    assert all(tensor.dtype == torch.float32 and torch.isfinite(tensor).all() for tensor in after.values())


def test_half_precision_is_close_to_full(make: MakeFit, images: Images) -> None:
    first: list[float] = []
    for precision in ("fp32", "bf16", "fp16"):
        losses: list[float] = []
        make(replace(PLAIN, precision=precision)).epoch(0, images, losses.append)
        first.append(losses[0])
    assert first[1:] == pytest.approx([first[0]] * 2, rel=0.01)
    assert len(set(first)) == 3


def test_only_float16_scales_its_loss(make: MakeFit) -> None:
    assert [make(replace(PLAIN, precision=p)).scaler.is_enabled() for p in ("fp32", "bf16", "fp16")] == [False, False, True]


def test_weights_are_held_with_their_channels_last(make: MakeFit) -> None:
    weight = make().network.encoder.stem[0].conv.weight  # type: ignore[union-attr, index]
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()  # type: ignore[union-attr, operator]
