"""Where results go: `out.mp4`, `out.png`, `masks/`, `out.jsonl`, `null://`."""

from __future__ import annotations

import importlib.util
import json
import os
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import cv2

from qtseg_edge.errors import MissingError, QtsegError, UsageError
from qtseg_edge.files import PendingFile, replacing
from qtseg_edge.runtime.frames import SourceInfo
from qtseg_edge.runtime.results import Result

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv"})
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_WANTED = "wanted out.mp4, out.png, masks/, out.jsonl or null://"


class Sink(ABC):
    """needs_picture: whether it wants the drawn overlay.

    Exactly one of `close` (finalise what was written) and `abandon` (leave nothing half-written) is called, and nothing after it.
    """

    needs_picture = False

    @abstractmethod
    def write(self, result: Result) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def abandon(self) -> None: ...


class NullSink(Sink):
    def write(self, result: Result) -> None:
        """Drops it."""

    def close(self) -> None:
        """Nothing is held."""

    abandon = close


class MaskFolder(Sink):
    """One PNG per frame at the frame's size; two classes are written as 0 and 255, more as their indices."""

    def __init__(self, folder: Path, info: SourceInfo) -> None:
        self._folder = folder
        self._images = info.images
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        if stale := sum(path.suffix == ".png" for path in folder.iterdir()):
            raise UsageError(
                f"--output {folder}/: holds {stale} PNG files already, old masks would look like new ones; give an empty folder"
            )
        if not os.access(folder, os.W_OK):
            raise QtsegError(f"{folder}: cannot be written to; give another --output")

    def write(self, result: Result) -> None:
        frame = result.frame
        name = frame.source.stem if self._images else f"{frame.source.stem}_{frame.index:06d}"
        mask = result.segmentation.mask
        encoded, data = cv2.imencode(".png", mask * 255 if len(result.classes) == 2 else mask)
        if not encoded:
            raise QtsegError(f"{self._folder / name}.png: a mask of {mask.shape[1]}x{mask.shape[0]} does not encode")
        _write_whole(self._folder / f"{name}.png", data.tobytes())

    def close(self) -> None:
        """Every file is whole as soon as it is there."""

    abandon = close


class PictureFile(Sink):
    """The overlay of a single image."""

    needs_picture = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, result: Result) -> None:
        encoded, data = cv2.imencode(self._path.suffix, cv2.cvtColor(result.picture, cv2.COLOR_RGB2BGR))
        if not encoded:
            raise QtsegError(f"{self._path}: a picture of {result.picture.shape[1]}x{result.picture.shape[0]} does not encode")
        _write_whole(self._path, data.tobytes())

    def close(self) -> None:
        """The file is whole as soon as it is there."""

    abandon = close


class JsonLines(Sink):
    """One JSON object per frame; the file takes its name when it is closed."""

    def __init__(self, path: Path) -> None:
        self._pending = PendingFile(path)
        try:
            self._file: IO[str] = self._pending.temporary.open("w", encoding="utf-8")
        except OSError as error:
            raise _unwritable(path, error) from error

    def write(self, result: Result) -> None:
        try:
            self._file.write(json.dumps(_record(result), separators=(",", ":")) + "\n")
        except OSError as error:
            raise _unwritable(self._pending.path, error) from error

    def close(self) -> None:
        try:
            self._file.close()
            self._pending.commit()
        except OSError as error:
            self._pending.discard()
            raise _unwritable(self._pending.path, error) from error

    def abandon(self) -> None:
        with suppress(OSError):  # the error that led here is the one to report
            self._file.close()
        self._pending.discard()


def default_output(info: SourceInfo) -> str:
    """`NAME-overlay.mp4`, or `.png` for a single image, in the current folder."""
    name = "".join(letter for letter in Path(info.name).stem if letter not in "*?[]")
    return f"{name or 'out'}-overlay{'.png' if info.images and info.frames == 1 else '.mp4'}"


def open_sinks(texts: list[str], info: SourceInfo) -> list[Sink]:
    """Open all of them, or none. Raises what `open_sink` does, and UsageError where an output would replace an input or another one."""
    for text in texts:
        _require_own_place(text, texts, info.files)
    sinks: list[Sink] = []
    try:
        for text in texts:
            sinks.append(open_sink(text, info))
    except BaseException:
        for sink in sinks:
            sink.abandon()
        raise
    return sinks


def open_sink(text: str, info: SourceInfo) -> Sink:
    """text: an output as the user typed it. Raises UsageError (unknown kind), MissingError, QtsegError (not writable)."""
    if text == "null://":
        return NullSink()
    if not text:
        raise UsageError(f"--output: is empty; {_WANTED}")
    path = Path(text)
    if text.endswith(("/", os.sep)) or path.is_dir():
        return MaskFolder(path, info)
    if path.suffix.lower() == ".jsonl":
        return JsonLines(_in_folder(path))
    if path.suffix.lower() in PICTURE_SUFFIXES:
        if not info.images or info.frames != 1:
            raise UsageError(f"--output {text}: holds one picture, {info.name} has more; wanted out.mp4 or masks/")
        return PictureFile(_in_folder(path))
    if path.suffix.lower() in VIDEO_SUFFIXES:
        if importlib.util.find_spec("av") is None:
            raise MissingError("writing video needs PyAV; get it with: pip install 'qtseg-edge[cpu]'")
        from qtseg_edge.runtime.video_writer import VideoFile

        return VideoFile(_in_folder(path), info)
    raise UsageError(f"--output {text}: {_WANTED} (a directory of masks ends in a slash)")


def _require_own_place(text: str, texts: list[str], files: tuple[Path, ...]) -> None:
    path = Path(text)
    if text != "null://" and sum(Path(other).resolve() == path.resolve() for other in texts) > 1:
        raise UsageError(f"--output {text}: is given twice; leave one out")
    if path.is_file() and any(path.samefile(file) for file in files):
        raise UsageError(f"--output {text}: is the input itself; give another name")
    inside = [file for file in files if file.suffix.lower() == ".png" and path.is_dir() and path.samefile(file.parent)]
    if inside:
        raise UsageError(f"--output {text}: its masks would replace the input {inside[0].name}; give another folder")


def _in_folder(path: Path) -> Path:
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: no such folder; create it with: mkdir -p {path.parent}")
    return path


def _write_whole(path: Path, content: bytes) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> QtsegError:
    return QtsegError(f"{path}: cannot be written ({error.strerror or error}); nothing is left of it, give another --output")


def _record(result: Result) -> dict[str, Any]:
    frame, segmentation = result.frame, result.segmentation
    regions = [
        {
            "class": result.classes[region.class_index],
            "area": region.area,
            "box": region.box,
            "confidence": round(region.confidence, 4),
            "contour": region.contour.tolist(),
        }
        for region in result.regions
    ]
    latencies = {
        "decode": frame.decode_ms,
        "prepare": segmentation.prepare_ms,
        "infer": segmentation.infer_ms,
        "restore": segmentation.restore_ms,
    }
    return {
        "source": str(frame.source),
        "frame": frame.index,
        "time_s": round(float(frame.time), 6),
        "width": segmentation.mask.shape[1],
        "height": segmentation.mask.shape[0],
        "mask_area": result.area,
        "mask_share": round(result.area / segmentation.mask.size, 6),
        "regions": regions,
        "latency_ms": {name: None if value is None else round(value, 3) for name, value in latencies.items()},
    }
