"""`qtseg-edge train` as a user meets it: options, messages, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from qtseg_edge.cli import app
from qtseg_edge.model.checkpoint import load_checkpoint
from tests.disks import small_disk
from tests.model import authors_format
from tests.training.discs import DISC, Run, contents, copied, write_pair

Train = Callable[..., Any]


@pytest.fixture
def train(tmp_path: Path, data: Path, start: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """The command on `data` in an empty current folder, with one epoch of two steps; options given again win."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.json").write_text('{"epochs": 1, "batch": 2, "imgsz": 64, "ema": 0.8}', encoding="utf-8")

    def call(*options: object, checkpoint: Path = start, folder: Path = data) -> Any:
        begin = [] if "--resume" in options else ["--checkpoint", checkpoint, "--config", "quick.json"]
        arguments = ["train", "--data", folder, "--device", "cpu", *begin, *options]
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})

    return call


def said(result: Any) -> list[str]:
    """The lines on standard error, without those that a busy machine gets to see of the progress."""
    assert result.stdout == ""
    return [line for line in result.stderr.splitlines() if " steps/s" not in line]


def message(result: Any, exit_code: int) -> str:
    """The one line that an error is, without the program's name."""
    assert result.exit_code == exit_code, result.output
    (line,) = said(result)
    program, _, text = line.partition(": ")
    assert program == "qtseg-edge"
    return text


# --- what it does -------------------------------------------------------------------------------------------------------------------


def test_help_lists_what_a_run_holds_and_every_option(train: Train) -> None:
    result = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for word in ("config.json, results.csv, curves.png, val.png", "--resume", "--classes", "--allow-empty", "--preview", "torchrun"):
        assert word in result.stdout


def test_a_run_ends_with_where_its_weights_are_and_what_to_do_with_them(train: Train, tmp_path: Path) -> None:
    result = train("--name", "polyps", "--lr", "0.002", "--seed", "7")
    assert result.exit_code == 0, result.output
    best = Path("runs/train/polyps/weights/best.safetensors")
    assert said(result) == [f"best weights: {best}; next: qtseg-edge export {best} -o polyps.onnx"]
    card = load_checkpoint(best).card
    assert (card.name, card.classes, card.size_hw) == ("polyps", ("background", "lesion"), (64, 64))
    saved = json.loads((tmp_path / "runs" / "train" / "polyps" / "config.json").read_text(encoding="utf-8"))
    assert (saved["epochs"], saved["batch"], saved["lr"], saved["seed"]) == (1, 2, 0.002, 7)


def test_a_finished_run_is_resumed_with_its_own_configuration(train: Train, finished: Run, tmp_path: Path) -> None:
    run = copied(finished.folder, tmp_path / "runs" / "train" / "old")
    before = contents(run)
    result = train("--name", "old", "--resume")
    assert result.exit_code == 0, result.output
    assert contents(run) == before


def test_classes_and_the_card_of_a_file_reach_the_weights(train: Train, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(DISC.to_json(), encoding="utf-8")
    for name, options in (("a", ["--classes", "background,disc"]), ("b", ["--card", "card.json"])):
        assert train("--name", name, *options).exit_code == 0
    cards = [load_checkpoint(tmp_path / "runs" / "train" / name / "weights" / "best.safetensors").card for name in "ab"]
    assert [card.classes for card in cards] == [("background", "disc")] * 2
    assert [card.licence for card in cards] == ["not stated", "CC0"]
    assert [card.name for card in cards] == ["a", "b"]


def test_the_manifest_of_the_data_names_classes_source_and_terms(train: Train, data: Path, tmp_path: Path) -> None:
    prepared = copied(data, tmp_path / "prepared")
    facts = {"classes": ["background", "polyp"], "citation": "Jha et al. 2020", "terms": "research only"}
    (prepared / "manifest.json").write_text(json.dumps(facts), encoding="utf-8")
    assert train(folder=prepared).exit_code == 0
    card = load_checkpoint(tmp_path / "runs" / "train" / "model" / "weights" / "best.safetensors").card
    assert (card.classes, card.data, card.data_terms) == (("background", "polyp"), "Jha et al. 2020", "research only")


def test_a_preview_is_one_picture(train: Train, tmp_path: Path) -> None:
    result = train("--preview")
    assert result.exit_code == 0, result.output
    assert list(contents(tmp_path / "runs")) == ["train/model/preview.png"]
    assert said(result) == ["what training will see: runs/train/model/preview.png"]


# --- what it refuses ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", ["", "polyp", "polyp,polyp", "background,,polyp"])
def test_classes_that_cannot_be_are_refused(train: Train, classes: str) -> None:
    assert message(train("--classes", classes), 2).startswith("--classes: wanted two or more different names, background first")


def test_a_card_and_classes_contradict_each_other(train: Train, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(DISC.to_json(), encoding="utf-8")
    assert message(train("--card", "card.json", "--classes", "background,disc"), 2) == "train: wanted --card or --classes, got both"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--imgsz", "100"], "quick.json and the options: imgsz: input should be a multiple of 32, got 100"),
        (["--lr", "inf"], "quick.json and the options: lr: input should be a finite number, got inf"),
        (["--precision", "fp8"], "quick.json and the options: precision: input should be 'auto', 'fp32', 'bf16' or 'fp16', got 'fp8'"),
        (["--config", "none.json"], "none.json: cannot be read (No such file or directory)"),
        (["--device", "tpu"], "--device: wanted auto, cpu or cuda, got 'tpu'"),
        (["--card", "none.json"], "none.json: cannot be read (No such file or directory)"),
    ],
)
def test_options_that_cannot_work_are_one_line(train: Train, tmp_path: Path, options: list[str], text: str) -> None:
    assert message(train(*options), 2) == text
    assert not (tmp_path / "runs").exists()


def test_an_unknown_key_of_the_file_is_one_line(train: Train, tmp_path: Path) -> None:
    (tmp_path / "quick.json").write_text('{"learning_rate": 1}', encoding="utf-8")
    assert message(train(), 2).startswith("quick.json and the options: learning_rate is not a key; known are encoder, ")


def test_problems_of_the_data_are_the_one_message_of_several_lines(train: Train, data: Path, tmp_path: Path) -> None:
    broken = copied(data, tmp_path / "broken")
    (broken / "train" / "masks" / "t0.png").unlink()
    (broken / "val" / "images" / "v0.png").write_bytes(b"text")
    result = train(folder=broken)
    assert result.exit_code == 2
    lines = said(result)
    assert lines[0] == "qtseg-edge: the training data has 2 problems:"
    assert lines[1].endswith(f"t0.png: no mask of that name in {broken / 'train' / 'masks'}") and "v0.png: wanted an image" in lines[2]
    assert len(lines) == 3


def test_a_folder_that_is_not_there_is_one_line(train: Train, tmp_path: Path) -> None:
    assert message(train(folder=tmp_path / "nowhere"), 2) == f"{tmp_path}/nowhere/train/images: no such folder"


def test_a_run_that_is_there_is_one_line(train: Train, finished: Run, tmp_path: Path) -> None:
    copied(finished.folder, tmp_path / "runs" / "train" / "model")
    text = "runs/train/model: a run is there already; go on with it by --resume, or give another --name"
    assert message(train(), 2) == text


def test_a_run_that_is_not_there_cannot_be_resumed(train: Train) -> None:
    assert message(train("--resume", "--name", "nobody"), 2) == (
        "runs/train/nobody: nothing to resume, no config.json there; start it without --resume"
    )


@pytest.mark.parametrize("option", ["--checkpoint", "--card", "--classes"])
def test_a_resumed_run_knows_its_weights_and_its_card(train: Train, finished: Run, tmp_path: Path, option: str) -> None:
    run = copied(finished.folder, tmp_path / "runs" / "train" / "model")
    text = "--resume: the run knows its weights and its card; leave out --checkpoint, --card and --classes"
    assert message(train("--resume", option, "background,disc"), 2) == text
    assert contents(run) == contents(finished.folder)


@pytest.mark.parametrize("name", ["", ".", "..", "../model", "a/b", "/tmp/model"])
def test_a_name_is_that_of_one_folder(train: Train, tmp_path: Path, name: str) -> None:
    assert message(train("--name", name), 2) == f"--name: wanted the name of one folder in runs/train, got {name!r}"
    assert not (tmp_path / "runs").exists()


def test_a_name_with_spaces_is_quoted_in_the_next_command(train: Train) -> None:
    assert said(train("--name", "my polyps"))[0].endswith(
        "qtseg-edge export 'runs/train/my polyps/weights/best.safetensors' -o 'my polyps'.onnx"
    )


def test_other_options_than_those_of_the_start_are_one_line(train: Train, finished: Run, tmp_path: Path) -> None:
    copied(finished.folder, tmp_path / "runs" / "train" / "model")
    result = train("--resume", "--epochs", "9")
    assert message(result, 2).startswith("--resume: this run was started with another epochs (3 then, 9 now); leave that out")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_missing(train: Train) -> None:
    assert message(train("--device", "cuda"), 3).startswith("--device cuda: torch finds no CUDA device here")


def test_weights_of_other_classes_do_not_fit(train: Train, tmp_path: Path) -> None:
    other = authors_format.write_checkpoint(tmp_path / "other", authors_format.Size())
    assert message(train(checkpoint=other), 4).endswith("weight_best_dice.pt: has 3 classes, this run trains 2")


def test_a_loss_that_is_not_finite_is_one_line(train: Train) -> None:
    assert message(train("--lr", "1e30"), 1).startswith("the loss became ")


def test_a_full_disk_is_one_line(train: Train) -> None:
    with small_disk():
        assert "state.pt: cannot be written" in message(train(), 1)


def test_too_few_images_for_a_batch_are_one_line(train: Train, tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 1)):
        for number in range(count):
            write_pair(tmp_path / "few" / split, f"{split}{number}", (20 + 5 * number, 20 + len(split)))
    text = f"{tmp_path}/few/train: 3 images, fewer than one step takes (8); give a smaller --batch or --accumulate"
    assert message(train("--batch", "8", folder=tmp_path / "few"), 2) == text
