"""Single images as a source, one frame each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from qtseg_edge.data import read_image
from qtseg_edge.runtime.frames import Frame, SourceInfo

if TYPE_CHECKING:
    from typing_extensions import Self

IMAGE_RATE = Fraction(25)


class ImageReader:
    """One image file. It is decoded when it is iterated, and raises QtsegError there when it is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.info = SourceInfo(str(path), IMAGE_RATE, 1 / IMAGE_RATE, 1, images=True, files=(path,))

    def __iter__(self) -> Iterator[Frame]:
        read_at = time.perf_counter()
        rgb = read_image(self._path)
        yield Frame(rgb, 0, Fraction(0), self._path, (time.perf_counter() - read_at) * 1e3, read_at)

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
