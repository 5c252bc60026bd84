"""How the facts of a model file are told: one line each, above the table, which would cut them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qtseg_edge.report import Table
from qtseg_edge.spec import ModelCard

Line = tuple[str, str]
_LABEL_WIDTH = 12


def file_lines(path: Path, size: int, sha256: str) -> list[Line]:
    return [("file", f"{path}, {size / 1e6:.1f} MB"), ("sha256", sha256)]


def card_lines(card: ModelCard) -> list[Line]:
    colours = zip(card.classes, card.colours_rgb, strict=True)
    return [
        ("classes", ", ".join(f"{name} (RGB {r} {g} {b})" for name, (r, g, b) in colours)),
        ("input", f"{card.size_hw[0]}x{card.size_hw[1]}, normalisation {card.normalisation}, threshold {card.threshold:g}"),
        ("data", card.data),
        ("data terms", card.data_terms),
        ("training", card.training),
        ("scores", ", ".join(f"{name} {value:g}" for name, value in card.scores.items()) or "not stated"),
        ("limits", card.limits),
        ("licence", card.licence),
        ("notice", card.notice),
    ]


def interface_lines(batch: str, size_hw: tuple[int, int]) -> list[Line]:
    shape = f"{batch} x {size_hw[0]} x {size_hw[1]}"
    return [("takes", f"image: {shape} x 3, uint8 RGB"), ("gives", f"mask, confidence: {shape}, uint8")]


def titled(lines: Iterable[Line]) -> str:
    given = list(lines)
    width = max(_LABEL_WIDTH, *(len(label) + 1 for label, _ in given))
    return "\n".join(f"{label:<{width}}{text}" for label, text in given) + "\n"


def told(value: Any) -> str:
    """Whatever another step wrote down, in one line: {"method": "minmax", "images": [1, 2]} -> method minmax, images (1, 2)."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_nested(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(_nested(entry) for entry in value) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return " ".join((f"{value:g}" if isinstance(value, float) else str(value)).split())


def _nested(value: Any) -> str:
    return f"({told(value)})" if value and isinstance(value, dict | list | tuple) else told(value)


def layer_table(layers: dict[str, dict[str, int]], title: str) -> Table:
    """A row for each type of layer and their total, a column for each precision."""
    types = sorted({op_type for counts in layers.values() for op_type in counts})
    rows = [[op_type, *(str(counts.get(op_type, "")) for counts in layers.values())] for op_type in types]
    total = ["total", *(str(sum(counts.values())) for counts in layers.values())]
    return ["layers", *layers], [*rows, total], title
