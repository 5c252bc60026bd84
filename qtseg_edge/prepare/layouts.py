"""Where the images and their masks lie in a raw download."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from qtseg_edge.errors import UsageError

_DEPTH = 4  # folders down to which files are looked for; the deepest layout is stage1_train/ID/masks/NAME.png
_PART_NAMES = {"training": "train"}
Key = tuple[str, str, str]


class Layout:
    """One way in which a data set is laid out, told by two patterns for whole paths relative to the download, in any case.

    An image and the masks with the same `key` (and `part`, `group`) belong together. part: the split that its publisher put it
    in. group: a kind of image of which every fold gets its share.
    """

    def __init__(self, shown: str, image: str, mask: str) -> None:
        self.shown = shown
        self._image = re.compile(image, re.IGNORECASE)
        self._mask = re.compile(mask, re.IGNORECASE)

    def images(self, paths: list[str]) -> dict[Key, list[str]]:
        return _matches(self._image, paths)

    def masks(self, paths: list[str]) -> dict[Key, list[str]]:
        return _matches(self._mask, paths)


@dataclass(frozen=True)
class Sample:
    """An image with all masks that were drawn on it. part: "" where the publisher made no split."""

    image: Path
    masks: tuple[Path, ...]
    part: str = ""
    group: str = ""


@dataclass
class Found:
    """What a download holds. base: the folder that the layout begins in. problems and notices: one line each."""

    base: Path
    layout: Layout
    samples: list[Sample]
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def find_samples(raw: Path, layouts: tuple[Layout, ...]) -> Found:
    """The pairs of the first layout that fits, in `raw` or in the only folder within it. Raises UsageError where none fits."""
    if not raw.is_dir():
        raise UsageError(f"{raw}: no such folder; unpack the download and name the folder that holds it")
    base: Path | None = raw
    while base is not None:
        paths = _files(base)
        for layout in layouts:
            images, masks = layout.images(paths), layout.masks(paths)
            if images and masks:
                return _paired(base, layout, images, masks)
        base = _only_folder(base)
    wanted = "\n  ".join(layout.shown for layout in layouts)
    here = ", ".join(sorted(path.name for path in raw.iterdir())[:8]) or "nothing"
    raise UsageError(f"{raw}: wanted one of these layouts, got {here}\n  {wanted}")


def _paired(base: Path, layout: Layout, images: dict[Key, list[str]], masks: dict[Key, list[str]]) -> Found:
    found = Found(base, layout, [])
    labelled_parts = {part for part, _, _ in masks}
    for part in sorted({part for part, _, _ in images} - labelled_parts):
        found.notices.append(f"{part}: images without a single mask; this split is left out (some downloads keep its masks back)")
    for key in sorted(images):
        part, group, _ = key
        first, *others = images[key]
        found.problems += [f"{other}: has the same name as {first}; keep one of them" for other in others]
        if key in masks:
            found.samples.append(Sample(base / first, tuple(base / mask for mask in masks[key]), part, group))
        elif part in labelled_parts:
            found.problems.append(f"{first}: no mask")
    found.problems += [f"{masks[key][0]}: no image" for key in sorted(masks.keys() - images.keys())]
    return found


def _matches(pattern: re.Pattern[str], paths: list[str]) -> dict[Key, list[str]]:
    found: dict[Key, list[str]] = defaultdict(list)
    for path in paths:
        match = pattern.fullmatch(path)
        if match:
            groups = match.groupdict()
            part = (groups.get("part") or "").lower()
            found[_PART_NAMES.get(part, part), groups.get("group") or "", groups["key"]].append(path)
    return dict(found)


def _files(base: Path) -> list[str]:
    """Paths relative to `base`, with slashes, sorted; without hidden files and what macOS adds to archives."""
    found = []
    for folder, folders, names in os.walk(base):
        inner = Path(folder).relative_to(base)
        folders[:] = [name for name in folders if _visible(name)] if len(inner.parts) < _DEPTH else []
        found += [(inner / name).as_posix() for name in names if _visible(name)]
    return sorted(found)


def _only_folder(base: Path) -> Path | None:
    folders = [path for path in base.iterdir() if path.is_dir() and _visible(path.name)]
    return folders[0] if len(folders) == 1 else None


def _visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"
