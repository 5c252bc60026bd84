"""The card of a model to be trained: from a file, from the data set's manifest, or from the names of its classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.spec import ModelCard, class_colours
from qtseg_edge.training.config import TrainConfig

MANIFEST = "manifest.json"
_DEFAULT_CLASSES = ("background", "lesion")


def card_for(name: str, data: Path, file: Path | None, classes: str | None, config: TrainConfig) -> ModelCard:
    """name: of the run. classes: "background,polyp", from --classes. The manifest is the one `qtseg-edge prepare` writes."""
    if file is not None and classes is not None:
        raise UsageError("train: wanted --card or --classes, got both")
    if file is not None:
        try:
            return replace(ModelCard.from_json(_text(file)), name=name)
        except IncompatibleError as error:
            raise UsageError(f"{file}: {error}") from error
    manifest = _manifest(data / MANIFEST)
    names = tuple(manifest.get("classes", _DEFAULT_CLASSES)) if classes is None else _split(classes)
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
    if not _are_names(names):
        raise UsageError(f"--classes: wanted two or more different names, background first, as in background,polyp; got {classes!r}")
    return names


def _manifest(path: Path) -> dict[str, Any]:
    """Empty where the data set was not prepared by us and has none."""
    if not path.is_file():
        return {}
    try:
        manifest = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: wanted JSON, as written by qtseg-edge prepare ({error}); repair or remove it") from error
    names = manifest.get("classes", _DEFAULT_CLASSES) if isinstance(manifest, dict) else None
    if not isinstance(names, list | tuple) or not _are_names(names):
        raise UsageError(f"{path}: wanted classes, two or more different names, as written by qtseg-edge prepare; repair or remove it")
    return cast(dict[str, Any], manifest)


def _are_names(names: Sequence[Any]) -> bool:
    return len(names) >= 2 and all(isinstance(name, str) and name for name in names) and len(set(names)) == len(names)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})") from error
