"""What travels through a run: a frame as it was read, and a source that yields frames."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Self

# A live mask that took longer than this is not shown, and none that is shown stays for longer: what it marks may have moved away.
STALE_SECONDS = 1.0


@dataclass(frozen=True)
class Frame:
    """rgb: (h, w, 3) uint8, upright, owned by whoever holds the frame.

    index: its number within `source`, from 0. time: seconds since that source's first frame: exact in files, by this machine's clock
    when live. source: its file or address, fit to be shown. decode_ms: what reading it took. captured_at: `time.perf_counter()` when
    its data arrived (live) or its reading began (file). has_signal: False where a live source has nothing to show; the picture is then
    black and must get no mask.
    """

    rgb: NDArray[np.uint8]
    index: int
    time: Fraction
    source: str
    decode_ms: float
    captured_at: float
    has_signal: bool = True


@dataclass(frozen=True)
class SourceInfo:
    """name: what the user gave, fit to be shown (no password). rate: frames per second. time_base: unit of the time stamps, seconds.

    frames: how many are expected, None where it is not known. pixel_aspect: width of a pixel by its height. images: the source is
    single images, not video. files: what is read, so that no output takes its place. live: its frames come when they come, and one
    that nobody takes is lost; their `time` is the clock's. size_hw: of its frames, None where that is not known before reading.
    """

    name: str
    rate: Fraction
    time_base: Fraction
    frames: int | None
    pixel_aspect: Fraction = Fraction(1)
    images: bool = False
    files: tuple[Path, ...] = ()
    live: bool = False
    size_hw: tuple[int, int] | None = None


@dataclass(frozen=True)
class SourceStatus:
    """up: frames are coming. reopened: how often it was opened again. damaged: frames thrown away as damaged. late: frames that were too
    old to be shown, or that nobody took before a newer one came.

    reason: why it is not up, one line fit to be shown; empty while it is.
    """

    up: bool = True
    reopened: int = 0
    damaged: int = 0
    reason: str = ""
    late: int = 0


class Source(ABC):
    """Yields frames in order. Raises SourceLostError from the iterator where it breaks after its first frame.

    Iterated once, in one thread. `close` and `status` may be called from another one; an iterator that waits ends soon after `close`.
    """

    info: SourceInfo

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    @abstractmethod
    def close(self) -> None: ...

    @property
    def status(self) -> SourceStatus:
        return SourceStatus()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def file_stem(source: str) -> str:
    """A name for files made from a source: the stem of a path, `rtsp-camera-8554-live` of an address."""
    scheme, found, rest = source.partition("://")
    if not found:
        return Path(source).stem
    return re.sub(r"[^\w.]+", "-", f"{scheme}-{rest}").strip("-.")[:80]
