"""One raw sample -> its two files in a split, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import MissingError, QtsegError
from qtseg_edge.prepare.datasets import Dataset
from qtseg_edge.prepare.labels import Labels
from qtseg_edge.prepare.layouts import Sample
from qtseg_edge.prepare.pictures import image_pixels, kept_as_it_is, png_bytes, read_bytes

T = TypeVar("T")
Uint8 = NDArray[np.uint8]
_DOUBTFUL_SHARE = 0.05  # of a mask's pixels; smoothed or JPEG edges stay far below, a colour of its own does not


@dataclass(frozen=True)
class WrittenFile:
    """One image with its mask. Paths are relative, to OUT or (source, source_masks) to RAW, with slashes."""

    split: str
    image: str
    mask: str
    source: str
    source_masks: tuple[str, ...]
    image_sha256: str
    mask_sha256: str
    size_hw: tuple[int, int]
    class_shares: tuple[float, ...]
    doubtful_pixels: int


@dataclass
class Conversion:
    """Writes samples into `folder` and remembers what it wrote and what was wrong. Splits that matter most must come first."""

    raw: Path
    folder: Path
    dataset: Dataset
    classes: tuple[str, ...]
    files: list[WrittenFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    twins: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    _seen: dict[str, tuple[str, str]] = field(default_factory=dict)
    _stems: set[tuple[str, str]] = field(default_factory=set)

    def add(self, split: str, sample: Sample) -> None:
        """Image and mask go to `split`, unless something is wrong or an earlier split has the same picture."""
        data = self._tried(read_bytes, sample.image)
        rgb = None if data is None else self._tried(image_pixels, sample.image, data)
        labels = [label for mask in sample.masks if (label := self._tried(self.dataset.read_label, mask)) is not None]
        if data is None or rgb is None or len(labels) < len(sample.masks):
            return
        wrong = self._wrong(split, sample, rgb, labels)
        self.problems += wrong
        if not wrong and not self._known(split, sample, rgb):
            self._write(split, sample, data, rgb, labels)

    def _tried(self, read: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return read(*arguments)
        except MissingError:
            raise
        except QtsegError as error:
            self.problems.append(str(error))
            return None

    def _wrong(self, split: str, sample: Sample, rgb: Uint8, labels: list[Labels]) -> list[str]:
        found = []
        height, width = rgb.shape[:2]
        for path, label in zip(sample.masks, labels, strict=True):
            if label.indices.shape != (height, width):
                found.append(f"{path}: mask of {label.indices.shape[1]}x{label.indices.shape[0]} for an image of {width}x{height}")
            if label.doubtful > _DOUBTFUL_SHARE * label.indices.size:
                share = 100 * label.doubtful / label.indices.size
                found.append(f"{path}: {label.doubtful} pixels ({share:.1f} %) are of no class ({', '.join(self.classes)})")
        if self.dataset.always_foreground and not any(label.indices.any() for label in labels):
            found.append(f"{sample.masks[0]}: empty; every image of this data set shows something")
        if (split, sample.image.stem) in self._stems:
            found.append(f"{sample.image}: the name {sample.image.stem} occurs twice in {split}")
        self._stems.add((split, sample.image.stem))
        return found

    def _known(self, split: str, sample: Sample, rgb: Uint8) -> bool:
        """Whether a split before this one has the same pixels; within one split they stay, with a remark."""
        digest = hashlib.sha256(repr(rgb.shape).encode() + rgb.tobytes()).hexdigest()
        name = self._relative(sample.image)
        other_split, other = self._seen.setdefault(digest, (split, name))
        if other == name:
            return False
        if other_split == split:
            self.twins.append(f"{split}: {name} is the same picture as {other}")
            return False
        self.left_out.append(f"{name}: left out of {split}, the same picture as {other} in {other_split}")
        return True

    def _write(self, split: str, sample: Sample, data: bytes, rgb: Uint8, labels: list[Labels]) -> None:
        copied = kept_as_it_is(sample.image, data)
        indices = np.minimum(np.maximum.reduce([label.indices for label in labels]), len(self.classes) - 1)
        image = f"{split}/images/{sample.image.stem}{sample.image.suffix if copied else '.png'}"
        mask = f"{split}/masks/{sample.image.stem}.png"
        shares = np.bincount(indices.ravel(), minlength=len(self.classes)) / indices.size
        self.files.append(
            WrittenFile(
                split=split,
                image=image,
                mask=mask,
                source=self._relative(sample.image),
                source_masks=tuple(self._relative(path) for path in sample.masks),
                image_sha256=_written(self.folder / image, data if copied else png_bytes(rgb)),
                # Two classes are stored black and white, so that a person sees them; more are stored as their indices.
                mask_sha256=_written(self.folder / mask, png_bytes(indices * np.uint8(255) if len(self.classes) == 2 else indices)),
                size_hw=(rgb.shape[0], rgb.shape[1]),
                class_shares=tuple(round(float(share), 6) for share in shares),
                doubtful_pixels=sum(label.doubtful for label in labels),
            )
        )

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.raw).as_posix()


def _written(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
