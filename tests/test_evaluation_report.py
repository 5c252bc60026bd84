from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from qtseg_edge.bootstrap import estimate
from qtseg_edge.errors import QtsegError
from qtseg_edge.evaluate import evaluate
from qtseg_edge.evaluation_report import EvaluationReport, evaluation_csv, evaluation_document, evaluation_tables, write_evaluation
from qtseg_edge.metrics import METRICS
from tests.disks import small_disk
from tests.labelled import Answers, Levels, box, fake, four_class_split, marked_split

NOTHING, SQUARE, SHIFTED = box(0, 0, 0, 0), box(10, 10, 30, 30), box(10, 20, 30, 40)
SIZES = ("network", "original")
FILES = ["images.csv", "report.json", "worst.png"]


@pytest.fixture
def split(tmp_path: Path) -> Path:
    pairs = {"a": (SQUARE, SQUARE), "b, [x]": (SHIFTED, SQUARE), "c": (NOTHING, SQUARE), "d": (NOTHING, NOTHING)}
    return marked_split(tmp_path / "split", pairs)


@pytest.fixture
def report(split: Path) -> EvaluationReport:
    return EvaluationReport(split, evaluate(fake(), split))


@pytest.fixture
def compared(split: Path) -> EvaluationReport:
    return EvaluationReport(split, evaluate(fake(), split), evaluate(Answers(SHIFTED), split), with_authors_metrics=True)


@pytest.fixture
def four(tmp_path: Path) -> EvaluationReport:
    split, _, _ = four_class_split(tmp_path / "four")
    return EvaluationReport(split, evaluate(Levels(), split))


def lines_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_the_document_holds_the_means_their_intervals_and_counts(report: EvaluationReport) -> None:
    document = evaluation_document(report)
    assert (document["data"], document["images"], document["bootstrap_resamples"]) == (str(report.data), 4, 2000)
    model = document["model"]
    assert (model["name"], model["device"], model["size_hw"], model["threshold"]) == ("fake", "fake", [64, 96], 0.5)
    for size in SIZES:
        (row,) = model[size]
        assert row["class"] == "bright red"
        assert row["dice"]["mean"] == pytest.approx((1 + 0.5 + 0 + 1) / 4)
        assert row["dice"]["low"] < row["dice"]["mean"] < row["dice"]["high"]
        assert (row["dice"]["n"], row["sensitivity"]["n"], row["hd95"]["n"]) == (4, 3, 2)
        assert {name: row[name] for name in ("labelled", "missed", "unlabelled", "invented")} == {
            "labelled": 3,
            "missed": 1,
            "unlabelled": 1,
            "invented": 0,
        }
    assert "other" not in document


def test_the_document_is_strict_json(compared: EvaluationReport, four: EvaluationReport) -> None:
    for report in (compared, four):
        document = evaluation_document(report)
        assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_images_values_are_those_of_the_means(four: EvaluationReport) -> None:
    document = evaluation_document(four)["model"]
    for size in SIZES:
        for row in range(4):
            for metric in METRICS:
                values = [image[size][row][metric.name] for image in document["per_image"]]
                defined = [value for value in values if value is not None]
                told = document[size][row][metric.name]
                assert told["n"] == len(defined)
                assert told["mean"] == pytest.approx(sum(defined) / len(defined), abs=2e-6)


def as_text(value: Any) -> str:
    return "" if value is None else str(value)


def test_the_csv_has_every_value_of_the_document(compared: EvaluationReport) -> None:
    document = evaluation_document(compared)
    lines = lines_of(evaluation_csv(document))
    assert len(lines) == 2 * 4 * 2  # models, images, sizes
    expected = [
        {"model": role, "image": image["image"], "size": size, **{name: as_text(value) for name, value in row.items()}}
        for role in ("model", "other")
        for image in document[role]["per_image"]
        for size in SIZES
        for row in image[size]
    ]
    assert lines == expected
    assert lines[2]["image"] == "b, [x].png"
    assert float(lines[2]["dice"]) == 0.5
    assert lines[4]["hd95"] == ""  # missed: no distance


def test_the_csv_of_several_classes_has_a_line_per_class(four: EvaluationReport) -> None:
    lines = lines_of(evaluation_csv(evaluation_document(four)))
    assert len(lines) == 5 * 2 * 4
    assert [line["class"] for line in lines[:4]] == ["polyp", "tool", "water", "all classes"]
    assert lines[2]["dice"] == ""  # the first image has no water


def test_presence_is_told_of_classes_not_of_all_together(four: EvaluationReport) -> None:
    rows = evaluation_document(four)["model"]["original"]
    assert [("missed" in row) for row in rows] == [True, True, True, False]
    assert evaluation_document(four)["model"]["threshold"] is None


def test_the_authors_metric_is_added_not_put_in_place(split: Path) -> None:
    evaluation = evaluate(fake(), split)
    plain = evaluation_document(EvaluationReport(split, evaluation))["model"]["network"][0]
    added = evaluation_document(EvaluationReport(split, evaluation, None, True))["model"]["network"][0]
    assert set(added) - set(plain) == {"authors_dice", "authors_iou"}
    assert {name: added[name] for name in plain} == plain
    assert added["authors_dice"]["mean"] == pytest.approx((1 + 0.5 + 2 / (2 + 400) + 1) / 4, abs=1e-6)


def test_the_difference_is_model_minus_other(compared: EvaluationReport) -> None:
    document = evaluation_document(compared)
    for size in SIZES:
        found = document["model_minus_other"][size][0]["dice"]
        ours, theirs = (document[role][size][0]["dice"]["mean"] for role in ("model", "other"))
        assert found["mean"] == pytest.approx(ours - theirs, abs=2e-6)
        assert found["mean"] == pytest.approx(0.625 - (0.5 + 0.5 + 0.5 + 0) / 4)
        assert (found["better"], found["worse"], found["equal"]) == (2, 1, 1)


def test_models_of_different_network_sizes_are_compared_at_original_size_only(split: Path) -> None:
    report = EvaluationReport(split, evaluate(fake(), split), evaluate(fake((128, 192)), split))
    assert list(evaluation_document(report)["model_minus_other"]) == ["original"]
    _, rows, title = evaluation_tables(report)[-1]
    assert title.endswith("at original size only, as their network sizes differ")
    assert [row[0] for row in rows if row[0] == row[0].strip()] == ["bright red, original"]


def test_the_table_tells_what_the_document_does(report: EvaluationReport) -> None:
    columns, rows, title = evaluation_tables(report)[0]
    assert title == "fake on fake, 4 images, network size 96x64; x 100 where not in pixels"
    assert columns == ["mean per image", "network", "95 %", "n", "original", "95 %", "n"]
    assert {len(row) for row in rows} == {len(columns)}
    by_name = {row[0].strip(): row[1:] for row in rows}
    assert list(by_name) == ["bright red", *(metric.title for metric in METRICS), "images missed", "images invented"]
    dice = estimate(report.model.values("network", 0, METRICS[0]))
    assert by_name["Dice"][:3] == ["62.50", f"{100 * dice.low:.2f} to {100 * dice.high:.2f}", "4"]
    assert by_name["HD95, pixels"][0::3] == ["5.00", "5.00"]
    assert by_name["HD95, pixels"][2] == "2"
    assert by_name["images missed"] == ["1", "", "3", "1", "", "3"]
    assert by_name["images invented"] == ["0", "", "1", "0", "", "1"]


def test_the_worst_are_listed_below(report: EvaluationReport) -> None:
    columns, rows, _ = evaluation_tables(report)[1]
    assert columns == ["lowest Dice, original size", "class", "Dice", "IoU", "HD95"]
    assert rows[:2] == [["c.png", "bright red", "0.00", "0.00", "-"], ["b, [x].png", "bright red", "50.00", "33.33", "10.00"]]


def test_several_classes_have_a_block_each_and_one_together(four: EvaluationReport) -> None:
    _, rows, _ = evaluation_tables(four)[0]
    blocks = [row[0] for row in rows if not row[0].startswith(" ")]
    assert blocks == ["polyp", "tool", "water", "all classes"]
    assert len(rows) == 4 + 4 * len(METRICS) + 3 * 2


def test_the_differences_have_signs_and_say_whose_is_better(compared: EvaluationReport) -> None:
    columns, rows, title = evaluation_tables(compared)[-1]
    assert title == "MODEL minus OTHER, image by image: fake on fake minus fake on answers"
    assert columns == ["mean difference", "", "95 %", "n", "MODEL better", "worse", "equal"]
    assert rows[0][0] == "bright red, network"
    dice = rows[1]
    assert dice[:2] == ["  Dice", "+25.00"] and dice[3:] == ["4", "2", "1", "1"]
    assert dice[2].startswith("-") and " to +" in dice[2]


def test_one_image_has_no_interval(tmp_path: Path) -> None:
    split = marked_split(tmp_path / "one", {"a": (SQUARE, SQUARE)})
    report = EvaluationReport(split, evaluate(fake(), split))
    row = evaluation_document(report)["model"]["network"][0]
    assert row["dice"] == {"mean": 1.0, "low": None, "high": None, "n": 1}
    assert evaluation_tables(report)[0][1][1][1:4] == ["100.00", "-", "1"]


def test_a_value_that_no_image_has_is_a_dash(tmp_path: Path) -> None:
    split = marked_split(tmp_path / "one", {"a": (NOTHING, NOTHING)})
    report = EvaluationReport(split, evaluate(fake(), split))
    by_name = {row[0].strip(): row[1:4] for row in evaluation_tables(report)[0][1]}
    assert by_name["HD95, pixels"] == by_name["Sensitivity"] == ["-", "-", "0"]
    assert evaluation_document(report)["model"]["original"][0]["hd95"] == {"mean": None, "low": None, "high": None, "n": 0}


def test_three_files_are_written(compared: EvaluationReport, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    write_evaluation(compared, folder)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert document == evaluation_document(compared)
    assert (folder / "images.csv").read_text(encoding="utf-8") == evaluation_csv(document)


def test_a_second_report_takes_the_place_of_the_first(compared: EvaluationReport, tmp_path: Path) -> None:
    for _ in range(2):
        write_evaluation(compared, tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == FILES


def test_where_the_picture_cannot_be_made_nothing_is_written(report: EvaluationReport, tmp_path: Path) -> None:
    (report.data / "images" / "c.png").unlink()
    with pytest.raises(QtsegError, match=r"c\.png: cannot be read"):
        write_evaluation(report, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_on_a_full_disk_nothing_half_written_is_left(report: EvaluationReport, tmp_path: Path) -> None:
    with small_disk(), pytest.raises(OSError):
        write_evaluation(report, tmp_path / "report")
    assert "worst.png" not in [path.name for path in (tmp_path / "report").iterdir()]
    assert not [path for path in (tmp_path / "report").iterdir() if ".part" in path.name]


def test_no_number_of_the_tables_is_nan(four: EvaluationReport, compared: EvaluationReport) -> None:
    for report in (four, compared):
        for _, rows, _ in evaluation_tables(report):
            assert not [cell for row in rows for cell in row if "nan" in cell or cell == str(math.nan)]
