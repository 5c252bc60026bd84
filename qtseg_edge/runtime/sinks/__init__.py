"""From what the user typed to an output: `out.mp4`, `out.png`, `masks/`, `out.jsonl`, `null://`."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from qtseg_edge.errors import MissingError, UsageError
from qtseg_edge.runtime.frames import SourceInfo
from qtseg_edge.runtime.sinks.base import NullSink, Sink
from qtseg_edge.runtime.sinks.json_lines import JsonLines
from qtseg_edge.runtime.sinks.pictures import MaskFolder, PictureFile

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv"})
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_WANTED = "wanted out.mp4, out.png, masks/, out.jsonl or null://"


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
        from qtseg_edge.runtime.sinks.video_writer import VideoFile

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
