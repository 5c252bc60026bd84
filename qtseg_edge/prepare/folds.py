"""Which image goes into which split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath

from qtseg_edge.errors import UsageError
from qtseg_edge.prepare.layouts import Found, Sample

FOLDS = 5
LISTS = ("train.txt", "val.txt")
UnitOf = Callable[[Sample], str]


@dataclass
class Splits:
    """fold: None where the download brings its own split. rule: in words, for the manifest."""

    samples: dict[str, list[Sample]]
    fold: int | None
    rule: str
    problems: list[str]
    notices: list[str]


def validation_units(units: list[str], fold: int) -> list[str]:
    """The published rule: sorted as text, fold f validates on units[f*m:(f+1)*m], m = number // 5. What is left over never validates."""
    ordered = sorted(units)
    size = len(ordered) // FOLDS
    return ordered[fold * size : (fold + 1) * size]


def split_samples(found: Found, fold: int | None, unit_of: UnitOf, cut: str) -> Splits:
    """Splits as the download brings them, or fold `fold` (0 when None) cut from what is not test.

    unit_of: what stays together, by default an image. cut: how this data set is cut, in words. Raises UsageError for a
    fold where the split is given, and where there is too little for folds.
    """
    lists = [found.base / name for name in LISTS]
    given = "train/ and val/" if any(sample.part == "val" for sample in found.samples) else ""
    if not given and all(path.is_file() for path in lists):
        given = " and ".join(LISTS)
    if given and fold is not None:
        raise UsageError(f"--fold: {found.base} brings its own split ({given}); leave --fold out")
    if given:
        return _listed(found.samples, lists) if given == " and ".join(LISTS) else _as_given(found.samples)
    return _cut(found, fold or 0, unit_of, cut)


def _cut(found: Found, fold: int, unit_of: UnitOf, cut: str) -> Splits:
    groups: dict[str, set[str]] = defaultdict(set)
    for sample in found.samples:
        if sample.part != "test":
            groups[sample.group].add(unit_of(sample))
    chosen = {(group, unit) for group, units in groups.items() for unit in validation_units(list(units), fold)}
    if not chosen and not found.problems:
        raise UsageError(f"{found.base}: wanted {FOLDS} or more images to cut {FOLDS} folds from, got {sum(map(len, groups.values()))}")
    splits: dict[str, list[Sample]] = {"train": [], "val": []}
    for sample in found.samples:
        held_out = (sample.group, unit_of(sample)) in chosen
        splits.setdefault(sample.part if sample.part == "test" else "val" if held_out else "train", []).append(sample)
    rule = f"fold {fold} of {FOLDS}: {cut}, sorted as text; val is [f*m:(f+1)*m] with m = number // {FOLDS}, train the rest"
    return Splits(splits, fold, f"test as published; of the others {rule}" if "test" in splits else rule, [], [])


def _as_given(samples: list[Sample]) -> Splits:
    splits: dict[str, list[Sample]] = {"train": [], "val": []}
    for sample in samples:
        splits[sample.part].append(sample)
    return Splits(splits, None, "train/ and val/ as they came", [], [])


def _listed(samples: list[Sample], lists: list[Path]) -> Splits:
    """The split of train.txt and val.txt, which hold a name per line, with or without folder and suffix."""
    named = [[PurePath(line.strip()).stem for line in path.read_text("utf-8").splitlines() if line.strip()] for path in lists]
    train, val = (set(names) for names in named)
    known = {sample.image.stem for sample in samples}
    problems = [f"{name}: in both {' and '.join(LISTS)}" for name in sorted(train & val)]
    problems += [f"{name}: in neither {' nor '.join(LISTS)}" for name in sorted(known - train - val)]
    absent = (train | val) - known
    notices = [f"{len(absent)} of the {len(train | val)} listed images are not there, first {min(absent)}"] if absent else []
    splits = {
        "train": [sample for sample in samples if sample.image.stem in train],
        "val": [sample for sample in samples if sample.image.stem in val],
    }
    return Splits(splits, None, f"the lists {' and '.join(LISTS)} of the download", problems, notices)
