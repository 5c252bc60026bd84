from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from qtseg_edge.data import image_files, read_image
from qtseg_edge.runtime import Segmenter, open_backend
from tests.labelled import SIZE_HW, as_mask, box, marked_split, red_where, split_of

PACKAGE = Path(__file__).parents[1] / "qtseg_edge"
CHECKPOINT, ONNX = PACKAGE.parent / "models" / "kvasir-seg-polyp.safetensors", PACKAGE / "assets" / "kvasir-seg-polyp.onnx"
SQUARE, SHIFTED = box(10, 10, 30, 30), box(10, 20, 30, 40)


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)], env={"COLUMNS": "200"})


def fake(*arguments: object) -> Any:
    return call("--device", "fake", *arguments)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    return marked_split(tmp_path / "val", {"a": (SQUARE, SQUARE), "b": (SHIFTED, SQUARE)})


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Endoscopy frames, labelled with what the built-in model says, shifted a little."""
    pairs = {}
    with open_backend(None, "openvino:f32") as backend:
        segmenter = Segmenter(backend)
        for path in image_files(PACKAGE / "assets" / "frames")[:3]:
            rgb = read_image(path)
            pairs[path.stem] = (rgb, as_mask(np.roll(segmenter.segment(rgb).mask > 0, 9, axis=1)))
    return split_of(tmp_path_factory.mktemp("frames") / "val", pairs)


def test_the_table_has_a_line_per_metric_in_aligned_columns(tmp_path: Path) -> None:
    name = "patient [7], a rather long name that a narrow table would cut short " * 2
    result = fake("--data", marked_split(tmp_path / "val", {name: (box(16, 16, 48, 80, (128, 192)), box(16, 16, 48, 80, (128, 192)))}))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "fake on fake, 1 images, network size 256x256; x 100 where not in pixels"
    assert lines[1].split() == ["mean", "per", "image", "network", "95", "%", "n", "original", "95", "%", "n"]
    assert [line.split("  ")[1].strip() for line in lines[3:5]] == ["Dice", "IoU"]
    assert len({line.rstrip().rindex("1") for line in lines[3:10]}) == 1  # the n of every metric, one below the other
    assert [line for line in lines if line.startswith(f"{name}.png ")]
    assert float(lines[3].split()[1]) > 95


def test_json_is_the_whole_of_standard_output(split: Path) -> None:
    document = json.loads(fake("--data", split, "--json").stdout)
    assert document["images"] == 2
    assert document["model"]["original"][0]["dice"]["mean"] == pytest.approx(0.75)
    assert [image["image"] for image in document["model"]["per_image"]] == ["a.png", "b.png"]


def test_files_are_written_only_where_asked(split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fake("--data", split).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["val"]
    printed = fake("--data", split, "-o", "report", "--json").stdout
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["images.csv", "report.json", "worst.png"]
    assert json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8")) == json.loads(printed)


def test_the_authors_metric_adds_two_lines(split: Path) -> None:
    plain, added = fake("--data", split).stdout, fake("--data", split, "--authors-metric").stdout
    new = [line.strip() for line in added.splitlines() if "authors" in line]
    assert [line.split("  ")[0] for line in new] == ["Dice, authors'", "IoU, authors'"]
    assert "authors" not in plain
    assert "authors_dice" in fake("--data", split, "--authors-metric", "--json").stdout


def test_a_checkpoint_and_its_onnx_file_have_the_same_scores_and_their_difference_is_told(frames: Path, tmp_path: Path) -> None:
    result = call(CHECKPOINT, "--data", frames, "--compare", ONNX, "-o", tmp_path / "report")
    assert result.exit_code == 0, result.output
    assert "MODEL minus OTHER, image by image: kvasir-seg-polyp on torch minus kvasir-seg-polyp on openvino" in result.stdout
    document = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    for size in ("network", "original"):
        of_torch, of_onnx = (document[role][size][0] for role in ("model", "other"))
        assert 0.2 < of_torch["dice"]["mean"] < 1
        for name in ("dice", "iou", "mae", "sensitivity", "specificity"):
            assert of_onnx[name]["mean"] == pytest.approx(of_torch[name]["mean"], abs=0.02)
        found = document["model_minus_other"][size][0]["dice"]
        assert found["mean"] == pytest.approx(of_torch["dice"]["mean"] - of_onnx["dice"]["mean"], abs=2e-6)
        assert found["n"] == 3
    with (tmp_path / "report" / "images.csv").open(encoding="utf-8") as file:
        assert [line["model"] for line in csv.DictReader(file)] == ["model"] * 6 + ["other"] * 6


def test_models_of_other_classes_are_not_compared(split: Path) -> None:
    result = fake("--data", split, "--compare", ONNX)
    assert result.exit_code == 2
    assert result.stderr == (
        "qtseg-edge: --compare: wanted a model with the classes background, bright red; kvasir-seg-polyp has background, polyp\n"
    )


def test_a_device_that_does_not_open_the_other_model_is_refused(frames: Path) -> None:
    result = call(CHECKPOINT, "--data", frames, "--compare", ONNX, "--device", "torch")
    assert result.exit_code == 2
    assert "--device torch opens a checkpoint" in result.stderr


def test_without_a_model_the_built_in_one_is_taken(frames: Path) -> None:
    assert json.loads(call("--data", frames, "--json").stdout)["model"]["name"] == "kvasir-seg-polyp"


def test_the_model_is_no_option_any_more(split: Path) -> None:
    result = call("--model", CHECKPOINT, "--data", split)
    assert result.exit_code == 2
    assert "No such option: --model" in result.output


def test_a_wrong_folder_is_told_before_the_model_is_opened() -> None:
    result = call("no-such-model.onnx", "--data", "nowhere")
    assert result.exit_code == 2
    assert result.stderr == "qtseg-edge: nowhere/images: no such folder\n"


def test_the_data_are_wanted() -> None:
    result = fake()
    assert result.exit_code == 2
    assert "--data" in result.output


@pytest.mark.parametrize("output", ["val/images", "val/masks", "val/../val/images"])
def test_nothing_is_written_among_the_data(split: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    monkeypatch.chdir(split.parent)
    result = fake("--data", split, "-o", output)
    assert result.exit_code == 2
    assert result.stderr == f"qtseg-edge: --output {output}: is part of the data; give another folder\n"
    assert len(list(split.rglob("*.*"))) == 4


def test_an_output_that_is_a_file_is_refused(split: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    result = fake("--data", split, "-o", tmp_path / "taken")
    assert result.exit_code == 2
    assert "wanted a folder, found a file" in result.stderr
    assert (tmp_path / "taken").read_text() == "mine"


def test_after_a_failure_nothing_is_written(tmp_path: Path) -> None:
    split = split_of(
        tmp_path / "val", {"a": (red_where(SQUARE), as_mask(SQUARE)), "b": (red_where(SQUARE), as_mask(box(0, 0, 9, 9, (9, 9))))}
    )
    result = fake("--data", split, "-o", tmp_path / "report")
    assert result.exit_code == 1
    assert result.stderr == f"qtseg-edge: {split}/masks/b.png: mask of 9x9 for an image of {SIZE_HW[1]}x{SIZE_HW[0]}\n"
    assert not (tmp_path / "report").exists()
