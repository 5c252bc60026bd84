from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from qtseg_edge import __version__
from qtseg_edge.model.checkpoint import load_checkpoint
from qtseg_edge.model.network import NetworkConfig
from qtseg_edge.training.config import config_from
from qtseg_edge.training.images import Images
from qtseg_edge.training.scoring import score
from tests.training.discs import (
    ALONE,
    DISC,
    QUICK,
    TWO_DISCS,
    Run,
    Step,
    collecting,
    contents,
    different_weights,
    go,
    rows,
    write_image,
    write_pair,
    write_small_start,
    write_two_discs,
)

# --- a run and its files ------------------------------------------------------------------------------------------------------------


def test_a_run_writes_its_files_and_no_others(finished: Run) -> None:
    assert set(contents(finished.folder)) == {
        "config.json",
        "run.json",
        "results.csv",
        "curves.png",
        "val.png",
        "state.pt",
        "weights/best.safetensors",
        "weights/last.safetensors",
    }
    assert finished.best == finished.folder / "weights" / "best.safetensors"


@pytest.mark.parametrize("name", ["curves.png", "val.png"])
def test_its_pictures_can_be_looked_at(finished: Run, name: str) -> None:
    picture = cv2.imread(str(finished.folder / name))
    assert picture is not None and picture.std() > 10


def test_the_images_are_checked_before_the_first_step(finished: Run) -> None:
    assert finished.told[:6] == [(done, 6, "images checked") for done in range(1, 7)]
    assert len(finished.steps) == len(finished.told) - 6


def test_every_step_is_reported_and_every_epoch_is_a_row(finished: Run) -> None:
    assert [(done, total) for done, total, _ in finished.steps] == [(done, 6) for done in range(1, 7)]
    losses = [float(note.split("loss ")[1].split(",")[0]) for _, _, note in finished.steps]
    written = rows(finished.folder)
    assert [row["epoch"] for row in written] == [0, 1, 2]
    assert [row["train_loss"] for row in written] == pytest.approx([sum(losses[k : k + 2]) / 2 for k in (0, 2, 4)], abs=1e-3)
    assert all(0 <= row["val_iou"] <= row["val_dice"] <= 1 and row["imgsz"] == 64 for row in written)
    assert [row["lr"] for row in written] == sorted((row["lr"] for row in written), reverse=True)


def test_the_last_score_is_told_with_every_step(finished: Run) -> None:
    assert "val Dice" not in finished.steps[1][2]
    assert finished.steps[2][2].endswith(f", val Dice {rows(finished.folder)[0]['val_dice']:.4f}")


def test_the_run_says_what_it_was_asked_to_do_and_with_what(finished: Run, data: Path, start: Path) -> None:
    assert config_from(finished.folder / "config.json", {}) == QUICK
    facts = json.loads((finished.folder / "run.json").read_text(encoding="utf-8"))
    assert (facts["qtseg_edge"], facts["torch"], facts["device"], facts["processes"]) == (__version__, torch.__version__, "cpu", 1)
    assert (facts["data"], facts["checkpoint"]) == (str(data), str(start))
    assert facts["network"]["width"] == 4 and len(facts["data_sha256"]) == 64
    assert facts["computed_in"] in ("float32", "bfloat16")


def test_best_and_last_carry_the_scores_of_their_epochs(finished: Run) -> None:
    written = rows(finished.folder)
    best = max(written, key=lambda row: (row["val_dice"], -row["epoch"]))
    for name, row in [("last", written[-1]), ("best", best)]:
        loaded = load_checkpoint(finished.folder / "weights" / f"{name}.safetensors")
        assert loaded.config == NetworkConfig(4, 2, (1, 1, 1), 2, 8)
        assert replace(loaded.card, scores={}) == replace(DISC, scores={})
        assert loaded.card.scores == pytest.approx({"val_dice": row["val_dice"], "val_iou": row["val_iou"]}, abs=1e-4)


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_saved_checkpoint_scores_again_what_it_claims(finished: Run, data: Path, name: str) -> None:
    loaded = load_checkpoint(finished.folder / "weights" / f"{name}.safetensors")
    again = score(loaded.network, Images.read(data / "val", 64, 2), 2, "scale", ALONE)
    assert loaded.card.scores == pytest.approx({key: again[key] for key in ("val_dice", "val_iou")}, abs=2e-3)


# --- learning -----------------------------------------------------------------------------------------------------------------------


def test_training_finds_the_disc(tmp_path: Path) -> None:
    """With augmentation, which would teach nothing if it lost the object. Over seeds the last Dice was 0.88 to 0.91."""
    for number in range(12):
        write_pair(tmp_path / "train", f"t{number}", (18 + 9 * (number % 4), 20 + 12 * (number // 4)))
    for number, centre in enumerate([(28, 28), (42, 38)]):
        write_pair(tmp_path / "val", f"v{number}", centre)
    start = write_small_start(tmp_path / "start.safetensors", DISC)
    validation = Images.read(tmp_path / "val", 64, 2)
    before = score(load_checkpoint(start).network, validation, 2, "scale", ALONE)
    asked = replace(QUICK, epochs=8, batch=4, lr=1e-2, ema=0.7, empty_share=0.0, val_every=8)
    go(tmp_path, tmp_path / "run", asked, checkpoint=start)
    (after,) = rows(tmp_path / "run")
    assert before["val_dice"] < 0.4 and after["val_dice"] > 0.75
    assert after["val_loss"] < 0.5 * before["val_loss"]


def test_training_tells_two_classes_of_discs_apart(tmp_path: Path) -> None:
    """A network that finds only one of them scores below a half. Over seeds the last Dice was 0.79 to 0.91."""
    places = [(20, 20), (20, 44), (44, 20), (44, 44)]
    pairs = [(pink, blue) for pink in range(4) for blue in range(4) if pink != blue]
    for number, (pink, blue) in enumerate(pairs):
        write_two_discs(tmp_path / "train", f"t{number}", places[pink], places[blue])
    write_two_discs(tmp_path / "val", "v0", (18, 42), (46, 22))
    write_two_discs(tmp_path / "val", "v1", (44, 44), (20, 24))
    start = write_small_start(tmp_path / "start.safetensors", TWO_DISCS)
    plain = replace(QUICK, augment=0.0, endoscope=0.0, empty_share=0.0)
    asked = replace(plain, epochs=14, batch=4, lr=1e-2, ema=0.7, val_every=14)
    best = go(tmp_path, tmp_path / "run", asked, card=TWO_DISCS, checkpoint=start)
    assert rows(tmp_path / "run")[0]["val_dice"] > 0.7
    assert load_checkpoint(best).card.classes == ("background", "pink", "blue")


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tmp_path: Path, data: Path, start: Path) -> None:
    config = replace(QUICK, epochs=1)
    best = [go(data, tmp_path / name, replace(config, seed=seed), checkpoint=start) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert different_weights(best[0], best[1]) == []
    assert different_weights(best[0], best[2])


# --- what a run starts from ---------------------------------------------------------------------------------------------------------


def test_without_a_checkpoint_the_papers_network_is_trained_at_the_asked_width(tmp_path: Path, data: Path) -> None:
    best = go(data, tmp_path / "run", replace(QUICK, epochs=1, width=4))
    assert load_checkpoint(best).config == NetworkConfig(width=4)


def test_a_run_can_start_from_a_run(tmp_path: Path, finished: Run, data: Path) -> None:
    first = finished.folder / "weights" / "last.safetensors"
    best = go(data, tmp_path / "run", replace(QUICK, epochs=1, lr=1e-12, normalisation="minmax"), checkpoint=first)
    before, after = load_checkpoint(first).network, load_checkpoint(best).network
    for (name, p), q in zip(before.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(q, p, rtol=0, atol=1e-5, msg=name)


def test_the_card_says_the_side_and_normalisation_that_were_scored(tmp_path: Path, data: Path, start: Path) -> None:
    written = replace(DISC, size_hw=(512, 512), bf16_verified=True, limits="discs only")
    best = go(data, tmp_path / "run", replace(QUICK, epochs=1, imgsz=96, normalisation="minmax"), card=written, checkpoint=start)
    card = load_checkpoint(best).card
    assert (card.size_hw, card.normalisation, card.bf16_verified) == ((96, 96), "minmax", False)
    assert (card.classes, card.limits, card.licence) == (DISC.classes, "discs only", "CC0")


def test_images_with_opacity_and_masks_as_jpeg_are_trained_on(tmp_path: Path, start: Path) -> None:
    for split in ("train", "val"):
        for name, centre in (("a", (20, 20)), ("b", (40, 36))):
            write_pair(tmp_path / split, name, (centre[0] + len(split), centre[1]))
        colours = cv2.imread(str(tmp_path / split / "images" / "a.png"))
        assert colours is not None
        write_image(tmp_path / split / "images" / "a.png", np.dstack([colours, np.full((64, 64), 128)]))
        mask = cv2.imread(str(tmp_path / split / "masks" / "b.png"), cv2.IMREAD_GRAYSCALE)
        assert mask is not None
        (tmp_path / split / "masks" / "b.png").unlink()
        write_image(tmp_path / split / "masks" / "b.jpg", mask)
    go(tmp_path, tmp_path / "run", replace(QUICK, epochs=1), checkpoint=start)
    assert len(rows(tmp_path / "run")) == 1


def test_empty_images_are_trained_on_where_they_are_allowed(tmp_path: Path, data: Path, start: Path) -> None:
    for number in range(2):
        write_pair(tmp_path / "train", f"t{number}", (20 + 9 * number, 30))
        write_pair(tmp_path / "val", f"v{number}", (25 + 9 * number, 30))
    for split, name in (("train", "t1"), ("val", "v1")):
        write_image(tmp_path / split / "masks" / f"{name}.png", np.zeros((64, 64)))
    go(tmp_path, tmp_path / "run", replace(QUICK, epochs=1, allow_empty=True), checkpoint=start)
    assert len(rows(tmp_path / "run")) == 1


# --- the course of a run ------------------------------------------------------------------------------------------------------------


def test_scores_are_taken_at_every_so_many_epochs_and_at_the_last(tmp_path: Path, data: Path, start: Path) -> None:
    steps: list[Step] = []
    go(data, tmp_path / "run", replace(QUICK, epochs=5, val_every=2), checkpoint=start, advance=collecting(steps))
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [1, 3, 4]
    assert [done for done, _, note in steps if note.startswith("epoch")] == list(range(1, 11))


def test_images_grow_during_a_run_and_the_network_sees_them_grow(tmp_path: Path, data: Path, start: Path) -> None:
    config = replace(QUICK, imgsz=96, epochs=4, augment=0.0, endoscope=0.0, empty_share=0.0)
    go(data, tmp_path / "grown", replace(config, start_imgsz=32), checkpoint=start)
    assert [row["imgsz"] for row in rows(tmp_path / "grown")] == [32, 32, 64, 96]
    go(data, tmp_path / "same", replace(config, epochs=1), checkpoint=start)
    assert rows(tmp_path / "grown")[0]["train_loss"] != pytest.approx(rows(tmp_path / "same")[0]["train_loss"], rel=1e-3)
    assert load_checkpoint(tmp_path / "grown" / "weights" / "last.safetensors").card.size_hw == (96, 96)


def test_of_equal_scores_the_first_is_kept(tmp_path: Path, data: Path, start: Path) -> None:
    """As the curves and the giving up have it. At a rate this small the score stays and the weights still move."""
    go(data, tmp_path / "run", replace(QUICK, lr=1e-9, epochs=2, freeze_epochs=0), checkpoint=start)
    assert len({row["val_dice"] for row in rows(tmp_path / "run")}) == 1, "this test could not fail"
    go(data, tmp_path / "one", replace(QUICK, lr=1e-9, epochs=2, val_every=2), checkpoint=start)
    weights = tmp_path / "run" / "weights"
    assert different_weights(weights / "last.safetensors", tmp_path / "one" / "weights" / "best.safetensors") == []
    assert different_weights(weights / "best.safetensors", weights / "last.safetensors")


def test_a_run_that_gets_no_better_is_given_up_and_stays_so(tmp_path: Path, data: Path, start: Path) -> None:
    """At a rate this small no score changes: the first stays the best."""
    config, steps = replace(QUICK, epochs=9, lr=1e-12, patience=2), list[Step]()
    go(data, tmp_path / "run", config, checkpoint=start, advance=collecting(steps))
    assert [row["epoch"] for row in rows(tmp_path / "run")] == [0, 1, 2]
    assert sum(note.startswith("epoch") for _, _, note in steps) == 6
    before = contents(tmp_path / "run")
    go(data, tmp_path / "run", config, resume=True, advance=collecting(steps := list[Step]()))
    assert not any(note.startswith("epoch") for _, _, note in steps)
    assert contents(tmp_path / "run") == before
