"""From what the user typed to a source: a video, an image, a directory of images, or a glob of either."""

from __future__ import annotations

import glob
import importlib.util
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from qtseg_edge.data import IMAGE_SUFFIXES, image_files
from qtseg_edge.errors import MissingError, QtsegError, UsageError
from qtseg_edge.runtime.frames import Frame, Source, SourceInfo
from qtseg_edge.runtime.sources.image_reader import ImageReader


def open_files(text: str, hardware: bool = False) -> Source:
    """text: a path, a directory of images, or a glob pattern. hardware: a Jetson's decoder reads the videos. Raises UsageError (nothing
    there), QtsegError (not readable), MissingError (no such decoder).
    """
    paths = _paths(text)
    return _open_one(paths[0], hardware) if len(paths) == 1 else FileSequence(paths, text, hardware)


class FileSequence(Source):
    """Several files one after the other, opened as they are reached. Their sizes may differ."""

    def __init__(self, paths: list[Path], name: str, hardware: bool = False) -> None:
        repeated = [stem for stem, count in Counter(path.stem for path in paths).items() if count > 1]
        if repeated:
            raise UsageError(
                f"{name}: several inputs are called {repeated[0]!r}, their outputs would overwrite each other; give them one by one"
            )
        self._paths, self._hardware = paths, hardware
        infos: list[SourceInfo] = []
        for path in paths:
            with _open_one(path, hardware) as source:
                infos.append(source.info)
        if len({info.images for info in infos}) > 1:
            raise UsageError(f"{name}: matches images and videos; give them one by one")
        counts = [info.frames for info in infos]
        total = None if None in counts else sum(count or 0 for count in counts)
        # The finest of the time bases, so that no file's frames have to be moved.
        self.info = replace(infos[0], name=name, frames=total, time_base=min(info.time_base for info in infos), files=tuple(paths))

    def __iter__(self) -> Iterator[Frame]:
        for path in self._paths:
            with _open_one(path, self._hardware) as source:
                yield from source

    def close(self) -> None:
        """Every file is closed as soon as it is read."""


def _paths(text: str) -> list[Path]:
    path = Path(text)
    if os.path.isdir(text):  # unlike pathlib, without an error for what no file can be called
        return image_files(path)
    if os.path.exists(text):
        return [path]
    found = sorted(Path(name) for name in glob.glob(text, recursive=True)) if glob.has_magic(text) else []
    files = [match for match in found if match.is_file()]
    if not files:
        what = "matches no file" if glob.has_magic(text) else "no such file or directory"
        raise UsageError(f"{text}: {what}; give a video, an image, a directory of images or a quoted pattern such as 'clips/*.mp4'")
    return files


def _open_one(path: Path, hardware: bool) -> Source:
    try:
        if path.stat().st_size == 0:
            raise QtsegError(f"{path}: is empty")
    except OSError as error:
        raise QtsegError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageReader(path)
    if importlib.util.find_spec("av") is None:
        raise MissingError("reading video needs PyAV; get it with: pip install 'qtseg-edge[cpu]'")
    if hardware:
        from qtseg_edge.runtime.sources.hardware_video import HardwareVideo

        return HardwareVideo(path)
    from qtseg_edge.runtime.sources.video_reader import VideoReader

    return VideoReader(path)
