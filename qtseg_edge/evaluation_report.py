"""An evaluation as a document for machines, a CSV of its images and tables for people."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qtseg_edge import __version__
from qtseg_edge.bootstrap import RESAMPLES, Estimate, estimate
from qtseg_edge.comparison import Difference, common_sizes, difference
from qtseg_edge.evaluate import SIZES, Evaluation, Size
from qtseg_edge.files import replacing
from qtseg_edge.metrics import AUTHORS_METRICS, METRICS, Metric, Scores
from qtseg_edge.report import Table
from qtseg_edge.worst_cases import worst_picture

_ESTIMATE_COLUMNS = ("95 %", "n")


@dataclass(frozen=True)
class EvaluationReport:
    """What one call of `evaluate` found. other: the model of --compare, on the same images."""

    data: Path
    model: Evaluation
    other: Evaluation | None = None
    with_authors_metrics: bool = False

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return METRICS + AUTHORS_METRICS if self.with_authors_metrics else METRICS


def evaluation_document(report: EvaluationReport) -> dict[str, Any]:
    """JSON values only: shares 0..1, distances in pixels, null where undefined."""
    document = {
        "version": __version__,
        "data": str(report.data),
        "images": len(report.model.images),
        "bootstrap_resamples": RESAMPLES,
        "model": _model_document(report.model, report.metrics),
    }
    if report.other is not None:
        document["other"] = _model_document(report.other, report.metrics)
        document["model_minus_other"] = _difference_document(report.model, report.other, report.metrics)
    return document


def evaluation_csv(document: dict[str, Any]) -> str:
    """One line per model, image, size and class, with the values of the document; empty where undefined."""
    lines = [
        {"model": role, "image": image["image"], "size": size, **row}
        for role in ("model", "other")
        for image in document.get(role, {}).get("per_image", ())
        for size in SIZES
        for row in image[size]
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def write_evaluation(report: EvaluationReport, folder: Path) -> None:
    """report.json, images.csv and worst.png into `folder`, each of them whole or not at all."""
    document = evaluation_document(report)
    contents = {
        "report.json": json.dumps(document, indent=1, allow_nan=False).encode(),
        "images.csv": evaluation_csv(document).encode(),
        "worst.png": worst_picture(report.model),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with replacing(folder / name) as path:
            path.write_bytes(content)


def evaluation_tables(report: EvaluationReport) -> list[Table]:
    """The means of each model, the worst images and, with another model, the differences."""
    tables = [_means_table(report.model, report.metrics), _worst_table(report.model)]
    if report.other is not None:
        tables += [_means_table(report.other, report.metrics), _difference_table(report.model, report.other, report.metrics)]
    return tables


def _model_document(evaluation: Evaluation, metrics: tuple[Metric, ...]) -> dict[str, Any]:
    card = evaluation.spec.card
    document: dict[str, Any] = {
        "name": card.name,
        "device": evaluation.backend,
        "checkpoint_sha256": evaluation.spec.checkpoint_sha256,
        "size_hw": list(evaluation.spec.size_hw),
        "classes": list(card.classes),
        "threshold": evaluation.threshold if len(card.classes) == 2 else None,
    }
    for size in SIZES:
        document[size] = [_row_document(evaluation, size, row, metrics) for row in range(len(evaluation.rows))]
    document["per_image"] = [
        {"image": image.name, **{size: _image_rows(evaluation.rows, image.at(size), metrics) for size in SIZES}}
        for image in evaluation.images
    ]
    return document


def _row_document(evaluation: Evaluation, size: Size, row: int, metrics: tuple[Metric, ...]) -> dict[str, Any]:
    means = {metric.name: _json_values(asdict(estimate(evaluation.values(size, row, metric)))) for metric in metrics}
    counts = asdict(evaluation.presence(size, row)) if _is_class(evaluation, row) else {}
    return {"class": evaluation.rows[row], **means, **counts}


def _image_rows(rows: tuple[str, ...], scores: tuple[Scores, ...], metrics: tuple[Metric, ...]) -> list[dict[str, Any]]:
    return [
        {
            "class": name,
            "labelled_pixels": of_row.labelled,
            "predicted_pixels": of_row.predicted,
            **_json_values({metric.name: getattr(of_row, metric.name) for metric in metrics}),
        }
        for name, of_row in zip(rows, scores, strict=True)
    ]


def _difference_document(model: Evaluation, other: Evaluation, metrics: tuple[Metric, ...]) -> dict[str, Any]:
    def of_row(size: Size, row: int) -> dict[str, Any]:
        return {metric.name: _flat(difference(model, other, size, row, metric)) for metric in metrics}

    return {size: [{"class": name, **of_row(size, row)} for row, name in enumerate(model.rows)] for size in common_sizes(model, other)}


def _flat(found: Difference) -> dict[str, Any]:
    counts = {"better": found.better, "worse": found.worse, "equal": found.equal}
    return {**_json_values(asdict(found.estimate)), **counts}


def _json_values(values: dict[str, float]) -> dict[str, Any]:
    """JSON knows no nan, and six digits are more than any of these numbers carries."""
    return {name: None if math.isnan(value) else round(value, 6) for name, value in values.items()}


def _is_class(evaluation: Evaluation, row: int) -> bool:
    """Not the last row, of all classes together: whether it is present says nothing about any of them."""
    return row < len(evaluation.spec.card.classes) - 1


def _means_table(evaluation: Evaluation, metrics: tuple[Metric, ...]) -> Table:
    height, width = evaluation.spec.size_hw
    columns = ["mean per image", *(column for size in SIZES for column in (size, *_ESTIMATE_COLUMNS))]  # of 80 letters for most class names
    rows = []
    for row, name in enumerate(evaluation.rows):
        rows.append([name, *[""] * 6])
        for metric in metrics:
            cells = [_estimate_cells(estimate(evaluation.values(size, row, metric)), metric) for size in SIZES]
            rows.append([f"  {metric.title}", *cells[0], *cells[1]])
        if _is_class(evaluation, row):
            rows += _presence_rows(evaluation, row)
    title = f"{_label(evaluation)}, {len(evaluation.images)} images, network size {width}x{height}; x 100 where not in pixels"
    return columns, rows, title


def _presence_rows(evaluation: Evaluation, row: int) -> list[list[str]]:
    found = [evaluation.presence(size, row) for size in SIZES]
    missed = [cell for each in found for cell in (str(each.missed), "", str(each.labelled))]
    invented = [cell for each in found for cell in (str(each.invented), "", str(each.unlabelled))]
    return [["  images missed", *missed], ["  images invented", *invented]]


def _worst_table(evaluation: Evaluation) -> Table:
    rows = []
    for case in evaluation.worst:
        scores = case.scores
        distance = "-" if math.isnan(scores.hd95) else f"{scores.hd95:.2f}"
        name = evaluation.spec.card.classes[case.class_index]
        rows.append([case.pair.image.name, name, f"{100 * scores.dice:.2f}", f"{100 * scores.iou:.2f}", distance])
    return ["lowest Dice, original size", "class", "Dice", "IoU", "HD95"], rows, ""


def _difference_table(model: Evaluation, other: Evaluation, metrics: tuple[Metric, ...]) -> Table:
    rows = []
    for size in common_sizes(model, other):
        for row, name in enumerate(model.rows):
            rows.append([f"{name}, {size}", *[""] * 6])
            for metric in metrics:
                found = difference(model, other, size, row, metric)
                counts = [str(count) for count in (found.better, found.worse, found.equal)]
                rows.append([f"  {metric.title}", *_estimate_cells(found.estimate, metric, sign="+"), *counts])
    title = f"MODEL minus OTHER, image by image: {_label(model)} minus {_label(other)}"
    if len(common_sizes(model, other)) < len(SIZES):
        title += "; at original size only, as their network sizes differ"
    return ["mean difference", "", *_ESTIMATE_COLUMNS, "MODEL better", "worse", "equal"], rows, title


def _label(evaluation: Evaluation) -> str:
    return f"{evaluation.spec.card.name} on {evaluation.backend}"


def _estimate_cells(found: Estimate, metric: Metric, sign: str = "") -> list[str]:
    mean, low, high = ("-" if math.isnan(value) else f"{value * metric.scale:{sign}.2f}" for value in (found.mean, found.low, found.high))
    return [mean, "-" if low == "-" else f"{low} to {high}", str(found.n)]
