"""Everything that is wrong with labelled folders, found before work begins and told at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qtseg_edge.data import LabelledImage, by_stem, image_files, pixels_sha256, read_labelled_image, read_mask
from qtseg_edge.errors import QtsegError, UsageError

_SHOWN = 40


@dataclass
class Findings:
    """problems: one line each. digests: image file -> SHA-256 of its pixels; masks likewise. classes_seen: indices in any mask."""

    problems: list[str] = field(default_factory=list)
    digests: dict[Path, str] = field(default_factory=dict)
    masks: dict[Path, str] = field(default_factory=dict)
    classes_seen: set[int] = field(default_factory=set)


def check_splits(
    splits: list[Path], classes: tuple[str, ...], allow_empty: bool, on_image: Callable[[int, int], None] = lambda done, total: None
) -> str:
    """Read every image and mask of the splits, the first of which is trained on; returns a SHA-256 of all that they hold.

    Unreadable files, images and masks without each other, sizes that differ, class values outside `classes`, empty masks
    unless `allow_empty`, classes that never occur, and the same pixels in two splits raise one UsageError that lists them.
    """
    pairs = [_pairs(split) for split in splits]
    total, done = sum(len(found) for found, _ in pairs), 0
    all_findings = []
    for found, problems in pairs:
        findings = Findings(list(problems))
        for pair in found:
            _check_pair(pair, len(classes), allow_empty, findings)
            done += 1
            on_image(done, total)
        all_findings.append(findings)
    problems = [problem for findings in all_findings for problem in findings.problems]
    problems += _missing_classes(splits[0], classes, all_findings[0])
    problems += [
        f"{split / 'masks'}: no foreground in any mask; nothing can be scored on it"
        for split, findings in zip(splits[1:], all_findings[1:], strict=True)
        if allow_empty and findings.masks and findings.classes_seen <= {0}
    ]
    problems += _shared(all_findings)
    if problems:
        raise UsageError(_listed(problems))
    return _fingerprint(all_findings)


def _pairs(split: Path) -> tuple[list[LabelledImage], list[str]]:
    images, masks = by_stem(image_files(split / "images")), by_stem(image_files(split / "masks"))
    problems = [f"{images[stem]}: no mask of that name in {split / 'masks'}" for stem in sorted(images.keys() - masks.keys())]
    problems += [f"{masks[stem]}: no image of that name in {split / 'images'}" for stem in sorted(masks.keys() - images.keys())]
    return [LabelledImage(images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys())], problems


def _check_pair(pair: LabelledImage, classes: int, allow_empty: bool, findings: Findings) -> None:
    image = mask = None
    try:
        image = read_labelled_image(pair.image)
        findings.digests[pair.image] = pixels_sha256(image)
    except QtsegError as error:
        findings.problems.append(str(error))
    try:
        mask = read_mask(pair.mask, classes)
        findings.masks[pair.mask] = pixels_sha256(mask)
    except QtsegError as error:
        findings.problems.append(str(error))
    if image is None or mask is None:
        return
    if image.shape[:2] != mask.shape:
        findings.problems.append(f"{pair.mask}: mask of {mask.shape[1]}x{mask.shape[0]} for an image of {image.shape[1]}x{image.shape[0]}")
    found = np.flatnonzero(np.bincount(mask.ravel(), minlength=classes))
    findings.classes_seen.update(int(index) for index in found)
    if found.max() == 0 and not allow_empty:
        findings.problems.append(f"{pair.mask}: empty; where these images really show nothing to mark, pass --allow-empty")


def _missing_classes(split: Path, classes: tuple[str, ...], findings: Findings) -> list[str]:
    missing = [name for index, name in enumerate(classes) if index not in findings.classes_seen]
    return [f"{split / 'masks'}: no pixel of {', '.join(missing)} in any mask; nothing can be learnt of it"] if missing else []


def _shared(all_findings: list[Findings]) -> list[str]:
    first: dict[str, Path] = {}
    problems = []
    for findings in all_findings:
        for path, digest in findings.digests.items():
            other = first.get(digest)
            if other is not None and other not in findings.digests:
                problems.append(f"{path}: the same image as {other}; scores on it would mean nothing, remove one")
        for path, digest in findings.digests.items():
            first.setdefault(digest, path)
    return problems


def _listed(problems: list[str]) -> str:
    more = [f"... and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return "\n  ".join([f"the training data has {len(problems)} problem{'s' if len(problems) > 1 else ''}:", *problems[:_SHOWN], *more])


def _fingerprint(all_findings: list[Findings]) -> str:
    lines = [
        f"{index} {path.name} {digest}"
        for index, findings in enumerate(all_findings)
        for digests in (findings.digests, findings.masks)
        for path, digest in sorted(digests.items())
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
