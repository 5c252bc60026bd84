from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qtseg_edge.data import labelled_images
from qtseg_edge.errors import IncompatibleError, QtsegError, UsageError
from qtseg_edge.model.checkpoint import load_checkpoint, save_checkpoint
from qtseg_edge.model.network import NetworkConfig, build_network
from qtseg_edge.spec import ModelCard
from qtseg_edge.training.config import TrainConfig
from qtseg_edge.training.loop import Fit, Images, score, train
from tests.model.authors_format import TWO_CLASSES, Size, write_checkpoint

DISC = ModelCard("disc", ("background", "disc"), ((0, 0, 0), (255, 0, 0)), (64, 64), "scale", scores={"val_dice": 2.0}, licence="CC0")
QUICK = TrainConfig(epochs=3, batch=2, imgsz=64, eval_imgsz=64, ema=0.8)
Steps = list[tuple[int, int, str]]


def write_pair(split: Path, name: str, centre: tuple[int, int], size_hw: tuple[int, int] = (64, 64)) -> None:
    """A pink disc on green and its mask."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    disc = np.hypot(y - centre[0], x - centre[1]) < 14
    for folder, pixels in [("images", np.where(disc[..., None], (90, 60, 230), (60, 80, 60))), ("masks", disc * 255)]:
        (split / folder).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(split / folder / f"{name}.png"), pixels.astype(np.uint8))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images to train on, two to score; one of each is not square. To be read only."""
    folder = tmp_path_factory.mktemp("data")
    for k, centre in enumerate([(20, 30), (40, 22), (32, 44)]):
        write_pair(folder / "train", f"t{k}", centre)
    write_pair(folder / "train", "wide", (20, 60), (48, 96))
    write_pair(folder / "val", "v0", (28, 28))
    write_pair(folder / "val", "tall", (60, 24), (96, 48))
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two classes, small enough to train here. To be read only."""
    return write_checkpoint(tmp_path_factory.mktemp("start"), TWO_CLASSES)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path, start: Path) -> tuple[Path, Steps]:
    """A finished run of QUICK and its steps. To be read only."""
    folder, steps = tmp_path_factory.mktemp("runs"), []
    card, run = folder / "card.json", folder / "new" / "run"
    card.write_text(DISC.to_json(), encoding="utf-8")
    best = train(data, run, QUICK, card, start, lambda *step: steps.append(step))
    assert best == run / "best.safetensors"
    return run, steps


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "results.csv").open(encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def quietly(done: int, total: int, note: str) -> None:
    pass


# --- a run and its files ------------------------------------------------------------------------------------------------------------


def test_a_run_writes_its_files_and_no_others(trained: tuple[Path, Steps]) -> None:
    names = sorted(path.name for path in trained[0].iterdir())
    assert names == ["best.safetensors", "config.json", "last.safetensors", "results.csv", "state.pt"]


def test_every_step_is_reported_and_every_epoch_is_a_row(trained: tuple[Path, Steps]) -> None:
    run, steps = trained
    assert [(done, total) for done, total, _ in steps] == [(done, 6) for done in range(1, 7)]
    losses = [float(note.split("loss ")[1]) for _, _, note in steps]
    written = rows(run)
    assert [row["epoch"] for row in written] == [0, 1, 2]
    assert [row["loss"] for row in written] == pytest.approx([sum(losses[k : k + 2]) / 2 for k in (0, 2, 4)], abs=1e-3)
    assert all(0 <= row["val_iou"] <= row["val_dice"] <= 1 for row in written)


def test_the_run_says_what_it_was_asked_to_do(trained: tuple[Path, Steps], data: Path, start: Path) -> None:
    written = json.loads((trained[0] / "config.json").read_text(encoding="utf-8"))
    assert (written["data"], written["start"]) == (str(data), str(start))
    assert (written["epochs"], written["lr"], written["normalisation"]) == (3, 1e-3, "scale")


def test_last_and_best_carry_the_scores_of_their_epochs(trained: tuple[Path, Steps]) -> None:
    run, written = trained[0], rows(trained[0])
    best = max(written, key=lambda row: (row["val_dice"], row["epoch"]))
    for name, row in [("last", written[-1]), ("best", best)]:
        loaded = load_checkpoint(run / f"{name}.safetensors")
        assert loaded.config == NetworkConfig(4, 2, (1, 1, 1), 2, 8)
        assert replace(loaded.card, scores={}) == replace(DISC, scores={})
        assert loaded.card.scores == pytest.approx({"val_dice": row["val_dice"], "val_iou": row["val_iou"]}, abs=1e-4)


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_saved_checkpoint_scores_again_what_it_claims(trained: tuple[Path, Steps], data: Path, name: str) -> None:
    loaded = load_checkpoint(trained[0] / f"{name}.safetensors")
    dice, iou = score(loaded.network, Images.read(labelled_images(data / "val"), QUICK.eval_imgsz), QUICK)
    assert loaded.card.scores == pytest.approx({"val_dice": dice, "val_iou": iou}, abs=2e-3)


def test_training_finds_the_disc(tmp_path: Path, data: Path) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(8, 2, (1, 1, 1), 4, 32)
    save_checkpoint(tmp_path / "start.safetensors", build_network(config), config, DISC)
    asked = replace(QUICK, epochs=10, lr=1e-2, ema=0.7, empty_share=0.0)
    train(data, tmp_path / "run", asked, None, tmp_path / "start.safetensors", quietly)
    written = rows(tmp_path / "run")
    assert written[-1]["loss"] < 0.5 * written[0]["loss"]
    assert written[0]["val_dice"] < 0.4 < 0.6 < max(row["val_dice"] for row in written)


def test_without_a_start_the_papers_network_is_trained(tmp_path: Path, data: Path) -> None:
    best = train(data, tmp_path / "run", replace(QUICK, epochs=1), None, None, quietly)
    assert load_checkpoint(best).config == NetworkConfig(classes=2)


def test_a_run_can_start_from_a_run(tmp_path: Path, trained: tuple[Path, Steps], data: Path) -> None:
    start = trained[0] / "last.safetensors"
    config = replace(QUICK, epochs=1, lr=1e-12, normalisation="minmax")
    best = train(data, tmp_path / "run", config, None, start, quietly)
    before, after = load_checkpoint(start).network, load_checkpoint(best).network
    for (name, p), q in zip(before.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=0, atol=1e-5, msg=name)


def test_without_a_card_the_model_says_lesion_and_what_it_was_scored_at(tmp_path: Path, data: Path, start: Path) -> None:
    config = replace(QUICK, epochs=1, eval_imgsz=96, normalisation="minmax")
    card = load_checkpoint(train(data, tmp_path / "run", config, None, start, quietly)).card
    assert (card.classes, card.size_hw, card.normalisation) == (("background", "lesion"), (96, 96), "minmax")


# --- going on -----------------------------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


def interrupt_at(step: int) -> Callable[[int, int, str], None]:
    def on_step(done: int, total: int, note: str) -> None:
        if done == step:
            raise Interrupted

    return on_step


@pytest.mark.parametrize("empty_share", [0.0, 0.5])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path: Path, data: Path, start: Path, empty_share: float) -> None:
    config, steps = replace(QUICK, epochs=2, empty_share=empty_share), []
    train(data, tmp_path / "whole", config, None, start, quietly)
    with pytest.raises(Interrupted):
        train(data, tmp_path / "halves", config, None, start, interrupt_at(3))
    assert [row["epoch"] for row in rows(tmp_path / "halves")] == [0]
    train(data, tmp_path / "halves", config, None, start, lambda done, total, note: steps.append(done))
    assert steps == [3, 4]
    assert rows(tmp_path / "halves") == rows(tmp_path / "whole")
    whole, halves = (load_checkpoint(tmp_path / run / "last.safetensors").network.state_dict() for run in ("whole", "halves"))
    assert [name for name in whole if not torch.equal(whole[name], halves[name])] == []


def copied(run: Path, to: Path) -> Path:
    to.mkdir()
    for path in run.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def test_a_finished_run_is_not_trained_again(tmp_path: Path, trained: tuple[Path, Steps], data: Path, start: Path) -> None:
    run, steps = copied(trained[0], tmp_path / "run"), []
    before = (run / "best.safetensors").read_bytes()
    assert train(data, run, QUICK, None, start, lambda *step: steps.append(step)) == run / "best.safetensors"
    assert steps == []
    assert (run / "best.safetensors").read_bytes() == before


def test_a_finished_run_can_be_given_more_epochs(tmp_path: Path, trained: tuple[Path, Steps], data: Path, start: Path) -> None:
    run = copied(trained[0], tmp_path / "run")
    train(data, run, replace(QUICK, epochs=4), None, start, quietly)
    assert [row["epoch"] for row in rows(run)] == [0, 1, 2, 3]


def test_a_full_disk_keeps_the_state_that_was_there(
    tmp_path: Path, trained: tuple[Path, Steps], data: Path, start: Path, request: pytest.FixtureRequest
) -> None:
    run = copied(trained[0], tmp_path / "run")
    fit = Fit(load_checkpoint(start).network, QUICK, steps=2)
    request.getfixturevalue("small_disk")
    with pytest.raises((OSError, RuntimeError), match="(?i)too large|unexpected pos|writ"):
        fit.save(run / "state.pt", [])
    assert (run / "state.pt").read_bytes() == (trained[0] / "state.pt").read_bytes()
    assert len(list(run.iterdir())) == len(list(trained[0].iterdir()))


@pytest.mark.parametrize("content", [b"", b"junk", b"hello", b"PK\x03\x04" + bytes(100)], ids=repr)
def test_a_broken_state_is_refused(tmp_path: Path, data: Path, start: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(IncompatibleError, match=r"state\.pt: cannot be resumed .*; give another --name"):
        train(data, tmp_path, QUICK, None, start, quietly)


def test_a_state_without_its_parts_is_refused(tmp_path: Path, data: Path, start: Path) -> None:
    torch.save({"results": []}, tmp_path / "state.pt")
    with pytest.raises(IncompatibleError, match=r"state\.pt: cannot be resumed \('network'\); give another --name"):
        train(data, tmp_path, QUICK, None, start, quietly)


def test_the_state_of_another_network_is_refused(tmp_path: Path, trained: tuple[Path, Steps], data: Path) -> None:
    run = copied(trained[0], tmp_path / "run")
    other = write_checkpoint(tmp_path / "other", replace(TWO_CLASSES, mlp_width=16))
    with pytest.raises(IncompatibleError, match=r"state\.pt: cannot be resumed"):
        train(data, run, QUICK, None, other, quietly)


# --- what stops a run ---------------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, data: Path, start: Path) -> None:
    with pytest.raises(QtsegError, match=r"loss became (nan|inf) at step \d: lower --lr"):
        train(data, tmp_path / "run", replace(QUICK, lr=1e30), None, start, quietly)
    for path in (tmp_path / "run").glob("*.safetensors"):
        state = load_checkpoint(path).network.state_dict()
        assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_a_mask_of_another_size_is_named_with_both_sizes(tmp_path: Path, data: Path, start: Path) -> None:
    for split in ("train", "val"):
        write_pair(tmp_path / split, "a", (20, 20))
        write_pair(tmp_path / split, "b", (20, 20))
    cv2.imwrite(str(tmp_path / "train" / "masks" / "b.png"), np.zeros((32, 48), np.uint8))
    with pytest.raises(QtsegError, match=r"b\.png: mask of 48x32 for an image of 64x64"):
        train(tmp_path, tmp_path / "run", QUICK, None, start, quietly)
    assert not (tmp_path / "run").exists()


def test_a_card_that_is_not_there_is_named(tmp_path: Path, data: Path, start: Path) -> None:
    with pytest.raises(UsageError, match=r"card\.json: cannot be read \(No such file"):
        train(data, tmp_path / "run", QUICK, tmp_path / "card.json", start, quietly)


def test_a_card_that_does_not_fit_the_run_is_refused(tmp_path: Path, data: Path, start: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(DISC.to_json(), encoding="utf-8")
    with pytest.raises(UsageError, match="wanted two classes and normalisation 'minmax', got 2 and 'scale'"):
        train(data, tmp_path / "run", replace(QUICK, normalisation="minmax"), path, start, quietly)
    three = replace(DISC, classes=("a", "b", "c"), colours_rgb=((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    path.write_text(three.to_json(), encoding="utf-8")
    with pytest.raises(UsageError, match="wanted two classes and normalisation 'scale', got 3 and 'scale'"):
        train(data, tmp_path / "run", QUICK, path, start, quietly)


def test_a_missing_split_is_named(tmp_path: Path, start: Path) -> None:
    write_pair(tmp_path / "train", "a", (20, 20))
    with pytest.raises(UsageError, match=r"val/images: no such folder"):
        train(tmp_path, tmp_path / "run", QUICK, None, start, quietly)


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path, data: Path, start: Path) -> None:
    with pytest.raises(QtsegError, match=r"4 .*batch|batch.* 4"):
        train(data, tmp_path / "run", replace(QUICK, batch=8), None, start, quietly)


def test_a_start_of_other_classes_is_refused(tmp_path: Path, data: Path) -> None:
    start = write_checkpoint(tmp_path, Size(width=4, classes=3, depths=(1, 1, 1), heads=2, mlp_width=8))
    with pytest.raises(QtsegError, match="classes"):
        train(data, tmp_path / "run", QUICK, None, start, quietly)


@pytest.mark.parametrize("warmup", [0.1, 0.15, 0.5])
def test_short_schedules_can_be_stepped_through(start: Path, warmup: float) -> None:
    """Ten steps: at 0.1 the warm-up is exactly one of them."""
    fit = Fit(load_checkpoint(start).network, replace(QUICK, epochs=2, warmup=warmup), steps=5)
    rates = []
    for _ in range(9):
        fit.optimiser.step()
        fit.schedule.step()
        rates.append(fit.optimiser.param_groups[0]["lr"])
    assert max(rates) <= QUICK.lr and rates[-1] < 0.01 * QUICK.lr


# --- parts --------------------------------------------------------------------------------------------------------------------------


class Painter(nn.Module):
    """Stands in for a network: foreground where the red channel is above a level."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, image: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(image[:, 0]), image[:, 0] - self.level], dim=1)


@pytest.mark.parametrize(("level", "dice"), [(0.0, 1.0), (2.0, 0.0)], ids=["finds it", "finds nothing"])
def test_score_of_a_network_that_is_known(data: Path, level: float, dice: float) -> None:
    images = Images.read(labelled_images(data / "val"), 96)
    got = score(Painter(level), images, QUICK)  # type: ignore[arg-type]
    assert got == pytest.approx((dice, dice), abs=0.03)


def test_score_is_the_mean_over_images_and_not_over_pixels() -> None:
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[0], masks[1, :2, :2] = 1, 1
    frames = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    frames[0] = 255  # all of the first found, nothing of the second
    assert score(Painter(0.0), Images(frames, masks), QUICK) == (0.5, 0.5)  # type: ignore[arg-type]


def test_images_are_letterboxed_with_their_masks(data: Path) -> None:
    images = Images.read(labelled_images(data / "train"), 96)
    assert images.frames.shape == (4, 96, 96, 3) and images.frames.dtype == torch.uint8
    assert images.masks.shape == (4, 96, 96) and images.masks.dtype == torch.uint8
    assert set(images.masks.unique().tolist()) == {0, 1}
    wide, mask = images.frames[3], images.masks[3]  # 48x96 by name last
    assert not wide[48:].any() and wide[:48].any(dim=2).all()
    assert ((wide[..., 0] > 150) == (mask > 0)).float().mean() > 0.99, "red is the first channel and lies where the mask is"


def test_averaged_weights_lag_behind_with_statistics_of_their_own(data: Path, start: Path) -> None:
    torch.manual_seed(0)
    network, images = load_checkpoint(start).network, Images.read(labelled_images(data / "train"), 64)
    fit = Fit(network, replace(QUICK, ema=0.9), steps=2)
    fit.epoch(images, quietly)
    kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    averaged = fit.averaged_network(images)
    assert not averaged.training and network.training
    assert any(not torch.equal(p, q) for p, q in zip(averaged.parameters(), network.parameters(), strict=True))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in network.state_dict().items())
    first = averaged.encoder.stem[0]
    seen = first.conv(images.frames.permute(0, 3, 1, 2).float() / 127.5 - 1)
    torch.testing.assert_close(first.norm.running_mean, seen.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)
