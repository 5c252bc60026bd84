"""The whole preparation: find, split, convert, check, and only then give the folder its name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtseg_edge.console import OnProgress
from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.prepare.convert import Conversion
from qtseg_edge.prepare.datasets import DATASETS, Dataset
from qtseg_edge.prepare.folds import Splits, split_samples
from qtseg_edge.prepare.layouts import Found, find_samples
from qtseg_edge.prepare.manifest import manifest_document

_ORDER = ("test", "val", "train")  # of two splits with the same picture, the earlier one keeps it
_SHOWN = 40


@dataclass(frozen=True)
class Prepared:
    """manifest: the content of OUT/manifest.json. notices: what the reader should know, one line each."""

    out: Path
    manifest: dict[str, Any]
    notices: list[str]


def prepare(name: str, raw: Path, out: Path, fold: int | None, classes: int | None, advance: OnProgress) -> Prepared:
    """Write `out`/{split}/{images,masks} and `out`/manifest.json from the download in `raw`, or nothing at all.

    fold: 0 to 4, for what has no split of its own; 0 when None. classes: the data set's first choice when None. Raises
    UsageError (name, folders, layout, options), QtsegError (everything wrong with the files, at once), OSError.
    """
    dataset = _dataset(name)
    class_names = _class_names(name, dataset, classes)
    _require_free(out)
    found = find_samples(raw, dataset.layouts)
    splits = split_samples(found, fold, dataset.unit_of, dataset.cut)
    with _replacing_folder(out) as folder:
        conversion = Conversion(raw, folder, dataset, class_names, problems=found.problems + splits.problems)
        _convert(conversion, splits, advance)
        if conversion.problems:
            raise QtsegError(_listed(raw, conversion.problems))
        notices = _notices(dataset, found, splits, conversion)
        manifest = manifest_document(name, dataset, class_names, found, splits, conversion, notices)
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Prepared(out, manifest, notices)


def _dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise UsageError(f"NAME: wanted one of {', '.join(DATASETS)}, got {name!r}")
    return DATASETS[name]


def _class_names(name: str, dataset: Dataset, classes: int | None) -> tuple[str, ...]:
    choices = dataset.classes
    if classes is not None and classes not in choices:
        raise UsageError(f"--classes: wanted {' or '.join(map(str, choices))} for {name}, got {classes}")
    return choices[min(choices) if classes is None else classes]


def _require_free(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; wanted the name of a new or empty folder")
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out}: not empty; name a new folder, or remove this one with: rm -r {out}")
    if not out.resolve().parent.is_dir():
        raise UsageError(f"{out.parent}: no such folder; create it with: mkdir -p {out.parent}")


def _convert(conversion: Conversion, splits: Splits, advance: OnProgress) -> None:
    todo = [(split, sample) for split in _ORDER for sample in splits.samples.get(split, [])]
    for done, (split, sample) in enumerate(todo):
        advance(done, len(todo), split)
        conversion.add(split, sample)
    advance(len(todo), len(todo))
    written = {file.split for file in conversion.files}
    if not conversion.problems:
        conversion.problems += [f"{split}: no image for it" for split in splits.samples if split not in written]


def _notices(dataset: Dataset, found: Found, splits: Splits, conversion: Conversion) -> list[str]:
    notices = found.notices + splits.notices + conversion.left_out + conversion.twins
    for which, published in dataset.published.items():
        count = sum(which in ("", sample.part, sample.group) for sample in found.samples)
        if count != published:
            notices.append(f"{which or 'all'}: {count} images here, {published} published")
    doubtful = sum(file.doubtful_pixels for file in conversion.files)
    if doubtful:
        touched = sum(file.doubtful_pixels > 0 for file in conversion.files)
        notices.append(f"pixels between two classes, gone to the nearer one: {doubtful}, in {touched} masks")
    empty = sum(file.class_shares[0] == 1.0 for file in conversion.files)
    if empty:
        notices.append(f"empty masks: {empty}")
    return notices


def _listed(raw: Path, problems: list[str]) -> str:
    more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    return "\n  ".join([f"{raw}: {count}, nothing was written:", *problems[:_SHOWN], *more])


@contextmanager
def _replacing_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`; on success it takes that name, on any error it is removed."""
    final = out.resolve()
    temporary = final.with_name(f".{final.name}.{os.getpid()}.part")
    temporary.mkdir()
    try:
        yield temporary
        if final.is_dir():
            final.rmdir()  # empty, see _require_free
        temporary.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
