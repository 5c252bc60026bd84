"""What a run leaves for its reader: a row and a point on the curves for every scored epoch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure  # no pyplot: nothing global, no window system

from qtseg_edge.files import replacing


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(results[0]))
        writer.writeheader()
        writer.writerows({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()} for row in results)


def write_curves(path: Path, results: list[dict[str, Any]]) -> None:
    """Loss, validation scores and learning rate over the epochs, the best epoch marked."""
    epochs = [row["epoch"] for row in results]
    best = max(results, key=lambda row: row["val_dice"])
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    loss, scores, rate = figure.subplots(1, 3)
    loss.plot(epochs, [row["train_loss"] for row in results], label="training (augmented)")
    loss.plot(epochs, [row["val_loss"] for row in results], label="validation")
    scores.plot(epochs, [row["val_dice"] for row in results], label="Dice")
    scores.plot(epochs, [row["val_iou"] for row in results], label="IoU")
    scores.axvline(best["epoch"], color="grey", linewidth=0.8)
    scores.set_title(f"validation: best Dice {best['val_dice']:.4f}, epoch {best['epoch']}", fontsize=10)
    falling = rate.plot(epochs, [row["lr"] for row in results], label="learning rate")
    side = rate.twinx()
    growing = side.step(epochs, [row["imgsz"] for row in results], color="grey", where="mid", label="image side (right axis)")
    side.set_ylim(bottom=0)
    side.legend(handles=[*falling, *growing], fontsize=8, loc="lower left")
    loss.set_title("loss", fontsize=10)
    rate.set_title("schedule", fontsize=10)
    for axes in (loss, scores, rate):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
    for axes in (loss, scores):
        axes.legend(fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
