"""Single images as a source, one frame each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from qtseg_edge.data import read_image
from qtseg_edge.runtime.frames import Frame, Source, SourceInfo

IMAGE_RATE = Fraction(25)


class ImageReader(Source):
    """One image file. It is decoded when it is iterated, and raises QtsegError there when it is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.info = SourceInfo(str(path), IMAGE_RATE, 1 / IMAGE_RATE, 1, images=True, files=(path,))

    def __iter__(self) -> Iterator[Frame]:
        captured_at = time.perf_counter()
        rgb = read_image(self._path)
        yield Frame(rgb, 0, Fraction(0), str(self._path), (time.perf_counter() - captured_at) * 1e3, captured_at)

    def close(self) -> None:
        """Nothing is held."""
