"""What a prepared folder says about itself, and the table that a person reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from qtseg_edge import __version__
from qtseg_edge.prepare.convert import Conversion, WrittenFile
from qtseg_edge.prepare.datasets import Dataset
from qtseg_edge.prepare.folds import Splits
from qtseg_edge.prepare.layouts import Found

_SPLIT_ORDER = ("train", "val", "test")


def manifest_document(
    name: str, dataset: Dataset, classes: tuple[str, ...], found: Found, splits: Splits, conversion: Conversion, notices: list[str]
) -> dict[str, Any]:
    """Everything needed to tell what the files are, where they came from and whether they are still the same."""
    files = sorted(conversion.files, key=lambda file: (_SPLIT_ORDER.index(file.split), file.image))
    return {
        "data_set": name,
        "title": dataset.title,
        "source": dataset.source,
        "citation": dataset.citation,
        "terms": dataset.terms,
        "qtseg_edge": __version__,
        "classes": list(classes),
        "mask_values": [0, 255] if len(classes) == 2 else list(range(len(classes))),
        "layout": found.layout.shown,
        "fold": splits.fold,
        "split_rule": splits.rule,
        "notices": notices,
        "splits": {split: _summary([file for file in files if file.split == split]) for split in _SPLIT_ORDER if split in splits.samples},
        "files": [asdict(file) for file in files],
    }


def _summary(files: list[WrittenFile]) -> dict[str, Any]:
    """Mean class shares are over images, each counting the same."""
    sizes = Counter(f"{file.size_hw[1]}x{file.size_hw[0]}" for file in files)
    shares = [sum(share) / len(files) for share in zip(*(file.class_shares for file in files), strict=True)]
    return {"images": len(files), "class_shares": [round(share, 6) for share in shares], "sizes": dict(sizes.most_common())}


def manifest_rows(manifest: dict[str, Any]) -> tuple[list[str], list[list[str]], str]:
    """Columns, rows and title: images, mean share of every foreground class and image sizes of each split."""
    foreground = manifest["classes"][1:]
    rows = [
        [split, str(summary["images"]), *(f"{100 * share:.2f} %" for share in summary["class_shares"][1:]), _sizes(summary["sizes"])]
        for split, summary in manifest["splits"].items()
    ]
    return ["split", "images", *foreground, "sizes"], rows, f"{manifest['title']}. {manifest['split_rule']}"


def _sizes(sizes: dict[str, int]) -> str:
    common = ", ".join(list(sizes)[:3])
    return common if len(sizes) <= 3 else f"{common} and {len(sizes) - 3} more"
