from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qtseg_edge.model.checkpoint import Checkpoint, load_checkpoint
from qtseg_edge.model.network import NetworkConfig, QTSeg, build_network
from tests.model import record_golden, slow_reference
from tests.model.authors_format import Size, weights, write_checkpoint

PARITY = 1e-4


@pytest.fixture(scope="module")
def authors(reference: Path) -> QTSeg:
    return load_checkpoint(reference / "weight_best_dice.pt").network


def random_images(count: int, height: int, width: int) -> Tensor:
    """(N, 3, H, W) in -1..1: squares of 8 pixels, coarse enough to be seen at stride 32."""
    squares = torch.rand((count, 3, height // 8, width // 8), generator=torch.Generator().manual_seed(0)) * 2 - 1
    return squares.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)


def millions(module: nn.Module) -> float:
    return round(sum(p.numel() for p in module.parameters()) / 1e6, 3)


@pytest.mark.parametrize("side", [256, 352, 512])
def test_logits_equal_the_authors(authors: QTSeg, reference: Path, side: int) -> None:
    recorded = np.load(reference / "io.npz")
    with torch.inference_mode():
        logits = authors(torch.from_numpy(recorded[f"input_{side}"])[None])[0].numpy()
    assert logits.shape == (2, side, side)
    assert np.abs(logits - recorded[f"logits_{side}"]).max() <= PARITY


def test_encoder_and_distribution_equal_the_authors_at_every_level(authors: QTSeg, reference: Path) -> None:
    image = torch.from_numpy(np.load(reference / "io.npz")["input_256"])[None]
    recorded = np.load(reference / "stages_256.npz")
    with torch.inference_mode():
        features = authors.encoder(image)
        levels = authors.distribution(features)
    names = ["encoder_p3", "encoder_p4", "encoder_p5", "mlfd_level0", "mlfd_level1", "mlfd_level2"]
    for name, ours in zip(names, [*features, *levels], strict=True):
        assert ours.shape == recorded[name].shape
        assert np.abs(ours.numpy() - recorded[name]).max() <= PARITY, name


@pytest.mark.slow
def test_the_slow_reference_itself_equals_the_authors(reference: Path) -> None:
    state = torch.load(reference / "weight_best_dice.pt", weights_only=True)
    recorded = np.load(reference / "io.npz")
    logits = slow_reference.logits({k: v.double().numpy() for k, v in state.items()}, recorded["input_256"].astype(np.float64), heads=8)
    assert np.abs(logits - recorded["logits_256"]).max() <= PARITY


def test_small_network_equals_recorded_logits(tiny: Checkpoint) -> None:
    with torch.inference_mode():
        logits = tiny.network(torch.from_numpy(record_golden.image())[None])[0].numpy()
    recorded = np.load(record_golden.GOLDEN)["logits"]
    kept = logits[:, :: record_golden.EVERY, :: record_golden.EVERY]
    assert kept.shape == recorded.shape
    assert np.abs(kept - recorded).max() <= PARITY


@pytest.mark.parametrize(
    "size",
    [Size(), Size(width=4, classes=2, depths=(2, 3, 1), heads=2, mlp_width=16), Size(width=4, classes=5, depths=(1, 1, 1), mlp_width=8)],
    ids=["3 classes", "2 classes, other depths and heads", "5 classes, shallow"],
)
@pytest.mark.parametrize("size_hw", [(64, 64), (32, 224), (96, 32)], ids=str)
def test_any_configuration_and_shape_equals_the_slow_reference(tmp_path: Path, size: Size, size_hw: tuple[int, int]) -> None:
    network = load_checkpoint(write_checkpoint(tmp_path, size)).network
    image = random_images(1, *size_hw)
    state = {key: tensor.double().numpy() for key, tensor in weights(size).items()}
    expected = slow_reference.logits(state, image[0].double().numpy(), size.heads)
    with torch.inference_mode():
        logits = network(image)[0].numpy()
    assert np.abs(logits - expected).max() <= PARITY


@torch.inference_mode()
def test_every_tensor_reaches_the_small_networks_logits(tiny: Checkpoint) -> None:
    """What the golden guards: no weight may be exchanged or left out without the logits moving by more than parity allows."""
    image = random_images(1, 32, 64)
    before, unseen = tiny.network(image), []
    for name, tensor in tiny.network.state_dict().items():
        if name.endswith(("num_batches_tracked", "key.bias")):  # softmax is blind to a shift of all keys
            continue
        kept = tensor.clone()
        tensor.mul_(0.5)
        if name.endswith("gaussian"):
            tiny.network.load_state_dict(tiny.network.state_dict())  # drops what was computed from it
        if (tiny.network(image) - before).abs().max() <= 5 * PARITY:
            unseen.append(name)
        tensor.copy_(kept)
    assert unseen == []


def test_parameters_are_as_many_as_published() -> None:
    network = build_network(NetworkConfig())
    assert millions(network) == 9.215
    assert [millions(network.encoder), millions(network.distribution), millions(network.decoder)] == [2.260, 0.279, 6.676]


@torch.inference_mode()
def test_a_batch_gives_what_its_images_give_alone(tiny: Checkpoint) -> None:
    images = random_images(3, 64, 96)
    alone = torch.cat([tiny.network(image[None]) for image in images])
    together = tiny.network(images)
    assert (alone[0] - alone[1]).abs().mean() > 0.1
    torch.testing.assert_close(together, alone, rtol=0, atol=PARITY)


@torch.inference_mode()
def test_sizes_may_change_from_call_to_call(tiny: Checkpoint) -> None:
    wide, tall = random_images(1, 224, 384), random_images(1, 384, 224)
    first = tiny.network(wide)
    assert first.shape == (1, 3, 224, 384)
    assert tiny.network(tall).shape == (1, 3, 384, 224)
    torch.testing.assert_close(tiny.network(wide), first, rtol=0, atol=0)


@pytest.mark.parametrize("size_hw", [(48, 64), (64, 33), (350, 350)], ids=str)
def test_sides_that_are_no_multiples_of_32_are_refused(tiny: Checkpoint, size_hw: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"multiples of 32, got {size_hw[0]}x{size_hw[1]}"):
        tiny.network(torch.zeros(1, 3, *size_hw))


def test_a_network_that_has_scored_can_still_be_trained(tiny: Checkpoint) -> None:
    images = random_images(2, 64, 64)
    with torch.inference_mode():
        tiny.network(images)  # fills the encoding's cache with inference tensors
    tiny.network.train()
    tiny.network(images).square().mean().backward()
    without = [name for name, p in tiny.network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


def test_bfloat16_autocast_stays_close_to_float32(tiny: Checkpoint) -> None:
    images = random_images(2, 64, 64)
    with torch.inference_mode():
        exact = tiny.network(images)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = tiny.network(images)
    assert (rounded.float() - exact).abs().mean() < 0.05 * exact.std()
