"""Pictures: `masks/`, one PNG per frame, and `out.png`, the overlay of a single image."""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.files import replacing
from qtseg_edge.runtime.frames import Frame, SourceInfo, file_stem
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink, unwritable


class MaskFolder(Sink):
    """One PNG per frame at the frame's size; two classes are written as 0 and 255, more as their indices. None where there is no signal:
    an empty mask says that nothing was found.
    """

    def __init__(self, folder: Path, info: SourceInfo) -> None:
        self.name = f"{folder}/"
        self._folder = folder
        self._info = info
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
        if stale := sum(path.suffix == ".png" for path in folder.iterdir()):
            raise UsageError(
                f"--output {folder}/: holds {stale} PNG files already, old masks would look like new ones; give an empty folder"
            )
        if not os.access(folder, os.W_OK):
            raise QtsegError(f"{folder}: cannot be written to; give another --output")

    def write(self, result: Result) -> None:
        if not result.frame.has_signal:
            return
        path = self._folder / mask_name(result.frame, self._info)
        mask = result.segmentation.mask
        encoded, data = cv2.imencode(".png", mask * 255 if len(result.classes) == 2 else mask)
        if not encoded:
            raise QtsegError(f"{path}: a mask of {mask.shape[1]}x{mask.shape[0]} does not encode")
        _write_whole(path, data.tobytes())

    def close(self) -> None:
        """Every file is whole as soon as it is there."""

    abandon = close


class PictureFile(Sink):
    """The overlay of a single image."""

    needs_picture = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def write(self, result: Result) -> None:
        encoded, data = cv2.imencode(self._path.suffix, cv2.cvtColor(result.picture, cv2.COLOR_RGB2BGR))
        if not encoded:
            raise QtsegError(f"{self._path}: a picture of {result.picture.shape[1]}x{result.picture.shape[0]} does not encode")
        _write_whole(self._path, data.tobytes())

    def close(self) -> None:
        """The file is whole as soon as it is there."""

    abandon = close


def mask_name(frame: Frame, info: SourceInfo) -> str:
    """The file of a frame's mask."""
    stem = file_stem(frame.source)
    return f"{stem}.png" if info.images else f"{stem}_{frame.index:06d}.png"


def _write_whole(path: Path, content: bytes) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise unwritable(path, error) from error
