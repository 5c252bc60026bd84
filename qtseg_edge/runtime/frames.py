"""What travels through a run: a frame as it was read, and a source that yields frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Frame:
    """rgb: (h, w, 3) uint8, upright, owned by whoever holds the frame.

    index: its number within `source`, from 0. time: seconds since that source's first frame, exact.
    decode_ms: what reading it took. read_at: `time.perf_counter()` when reading began.
    """

    rgb: NDArray[np.uint8]
    index: int
    time: Fraction
    source: Path
    decode_ms: float
    read_at: float


@dataclass(frozen=True)
class SourceInfo:
    """name: what the user gave, fit to be shown. rate: frames per second. time_base: the unit of the time stamps, in seconds.

    frames: how many are expected, None where it is not known. pixel_aspect: width of a pixel by its height. images: the source is
    single images, not video. files: what is read, so that no output takes its place.
    """

    name: str
    rate: Fraction
    time_base: Fraction
    frames: int | None
    pixel_aspect: Fraction = Fraction(1)
    images: bool = False
    files: tuple[Path, ...] = ()


class Source(Protocol):
    """Yields frames in order. Raises SourceLostError from the iterator where it breaks after its first frame."""

    info: SourceInfo

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
