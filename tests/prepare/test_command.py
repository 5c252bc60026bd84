from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from qtseg_edge.cli import app
from tests.prepare import raw


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["prepare", *arguments], env={"COLUMNS": "200"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a small BKAI-IGH in `raw data`."""
    monkeypatch.chdir(tmp_path)
    raw.bkai_igh(tmp_path / "raw data")
    return tmp_path


def test_the_table_tells_images_shares_and_sizes_and_the_next_command_follows(folder: Path) -> None:
    result = call("bkai-igh", "raw data", "my data", "--classes", "3", "--fold", "4")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("BKAI-IGH NeoPolyp-Small: neoplastic and non-neoplastic polyps. fold 4 of 5: ")
    assert lines[1].split() == ["split", "images", "neoplastic", "non-neoplastic", "sizes"]
    assert [line.split()[:2] for line in lines[2:]] == [["train", "8"], ["val", "2"]]
    assert lines[2].endswith("96x64")
    assert result.stderr.splitlines() == ["note: all: 10 images here, 1000 published", "next: qtseg-edge train --data 'my data'"]


def test_json_is_the_whole_of_standard_output(folder: Path) -> None:
    document = json.loads(call("bkai-igh", "raw data", "data", "--json").stdout)
    assert (document["out"], document["data_set"], document["fold"]) == ("data", "bkai-igh", 0)
    assert document["splits"]["train"]["images"] == 8
    assert "files" not in document


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["bkai", "raw data", "out"],
            2,
            "qtseg-edge: NAME: wanted one of isic2016, busi, bkai-igh, dsb2018, fives, kvasir-seg, cvc-clinicdb, ",
        ),
        (["busi", "raw data", "out"], 2, "qtseg-edge: raw data: wanted one of these layouts, got test, train, train_gt\n"),
        (["bkai-igh", "raw data", "out", "--classes", "4"], 2, "qtseg-edge: --classes: wanted 2 or 3 for bkai-igh, got 4\n"),
        (["bkai-igh", "raw data", "raw data"], 2, "qtseg-edge: raw data: not empty; "),
        (["bkai-igh", "raw data", "out", "--fold", "5"], 2, "Usage: "),
    ],
)
def test_errors_are_told_with_their_exit_code(folder: Path, arguments: list[str], code: int, message: str) -> None:
    result = call(*arguments)
    assert result.exit_code == code
    assert result.stderr.startswith(message)
    assert not (folder / "out").exists()


def test_bad_files_end_with_code_1(folder: Path) -> None:
    (folder / "raw data" / "train" / "train" / f"{3:032x}.jpeg").write_bytes(b"")
    result = call("bkai-igh", "raw data", "out")
    assert result.exit_code == 1
    assert result.stderr.startswith("qtseg-edge: raw data: 1 problem, nothing was written:\n  raw data/train/train/")
    assert [path.name for path in folder.iterdir()] == ["raw data"]
