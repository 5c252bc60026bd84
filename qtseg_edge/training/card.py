"""The card of a model to be trained: from a file, from the data set's manifest, or from the names of its classes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from qtseg_edge.errors import UsageError
from qtseg_edge.spec import ModelCard, class_colours
from qtseg_edge.training.config import TrainConfig

MANIFEST = "manifest.json"
_DEFAULT_CLASSES = ("background", "lesion")


def card_for(name: str, data: Path, file: Path | None, classes: str | None, config: TrainConfig) -> ModelCard:
    """name: of the run. classes: "background,polyp", from --classes. The manifest is the one `qtseg-edge prepare` writes."""
    if file is not None and classes is not None:
        raise UsageError("train: wanted --card or --classes, got both")
    if file is not None:
        return replace(ModelCard.from_json(_text(file)), name=name)
    manifest = json.loads(_text(data / MANIFEST)) if (data / MANIFEST).is_file() else {}
    names = _split(classes) if classes else tuple(manifest.get("classes", _DEFAULT_CLASSES))
    side = (config.imgsz, config.imgsz)
    return ModelCard(
        name,
        names,
        class_colours(len(names)),
        side,
        config.normalisation,
        data=str(manifest.get("citation", "not stated")),
        data_terms=str(manifest.get("terms", "not stated")),
    )


def _split(classes: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in classes.split(","))
    if len(names) < 2 or not all(names) or len(set(names)) != len(names):
        raise UsageError(f"--classes: wanted two or more different names, background first, as in background,polyp; got {classes!r}")
    return names


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from error
