"""From what the user typed to an output: a file, a folder of masks, a window, a media server."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from datetime import datetime, timezone
from itertools import count
from pathlib import Path

from qtseg_edge.errors import MissingError, UsageError
from qtseg_edge.runtime.frames import SourceInfo
from qtseg_edge.runtime.sinks.base import NullSink, Sink
from qtseg_edge.runtime.sinks.coco import CocoFile
from qtseg_edge.runtime.sinks.json_lines import JsonLines
from qtseg_edge.runtime.sinks.pictures import MaskFolder, PictureFile
from qtseg_edge.runtime.sinks.retention import parse_retention, split_query
from qtseg_edge.runtime.sinks.segment_list import STAMP, Note

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv"})
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
_NULL, _DISPLAY, _RTSP, _WEB = "null://", "display://", "rtsp://", "web://"
WebView = Callable[[SourceInfo], Sink]  # a view of the run's web server (`WebServer.view`)
_EVENTS, _COCO = ".events.jsonl", ".coco.json"
_START = "{start}"
_WANTED = (
    "wanted out.mp4, recordings/?segment=10min, out.png, masks/, out.jsonl, out.events.jsonl, out.coco.json, "
    "display://, web://, rtsp:// or null://"
)


def for_start(text: str, now: datetime) -> str:
    """The output of a run that starts now: `{start}.events.jsonl` -> `20261125T081500Z.events.jsonl`, so that every start has its own.

    Also where a board without a battery starts at the same time again: `20261125T081500Z-2.events.jsonl`.
    """
    if _is_address(text) or _START not in str(_place(text)):
        return text
    stamp = now.astimezone(timezone.utc).strftime(STAMP)
    names = (text.replace(_START, stamp if number == 1 else f"{stamp}-{number}") for number in count(1))
    return next(name for name in names if not _place(name).exists())


def _silent(text: str) -> None:
    """Whoever opens an output by hand need not listen."""


def default_output(info: SourceInfo) -> str:
    """`NAME-overlay.mp4`, or `.png` for a single image, in the current folder. Raises UsageError for a live source."""
    if info.live:
        raise UsageError(f"{info.name}: a live source needs --output: web://127.0.0.1:8080, display://, rtsp://HOST/PATH or out.mp4")
    name = "".join(letter for letter in Path(info.name).stem if letter not in "*?[]")
    return f"{name or 'out'}-overlay{'.png' if info.images and info.frames == 1 else '.mp4'}"


def for_stream(text: str, number: int, count: int) -> str:
    """The output of one of `count` streams: `out.mp4` -> `out-1.mp4` for number 0, `masks/` -> `masks/1/`, `rtsp://h/p` -> `rtsp://h/p-1`.

    As it is where there is only one stream, and where the streams share it: `null://`, `web://`. Raises UsageError for `display://`,
    because OpenCV's windows all want the same thread.
    """
    if text == _DISPLAY and count > 1:
        raise UsageError(f"--output {_DISPLAY}: shows one source, here are {count}; use web://127.0.0.1:8080")
    if count == 1 or (_is_address(text) and not text.startswith(_RTSP)):
        return text
    if text.startswith(_RTSP):
        address, query, rest = text.partition("?")
        return f"{address.rstrip('/')}-{number + 1}{query}{rest}"
    segments = split_query(text)
    if segments is not None:
        return f"{Path(segments[0]) / str(number + 1)}/?{segments[1]}"
    path = Path(text)
    if text.endswith(("/", os.sep)) or path.is_dir():
        return f"{path / str(number + 1)}/"
    suffix = next((ending for ending in (_EVENTS, _COCO) if path.name.lower().endswith(ending)), path.suffix)
    stem = path.name[: len(path.name) - len(suffix)]
    return str(path.with_name(f"{stem}-{number + 1}{path.name[len(stem) :]}"))


def open_sinks(texts: list[str], info: SourceInfo, web: WebView | None = None, note: Note = _silent) -> list[Sink]:
    """Open all of them, or none. web: opens `web://`. note: is told of files that are removed, because the user has asked for it.

    Raises what `open_sink` does, and UsageError where an output would replace an input or another one.
    """
    for text in texts:
        _require_own_place(text, texts, info.files)
    sinks: list[Sink] = []
    try:
        for text in texts:
            sinks.append(open_sink(text, info, web, note))
    except BaseException:
        for sink in sinks:
            sink.abandon()
        raise
    return sinks


def open_sink(text: str, info: SourceInfo, web: WebView | None = None, note: Note = _silent) -> Sink:
    """text: an output as the user typed it. Raises UsageError (unknown kind), MissingError, QtsegError (not writable, no server)."""
    if not text:
        raise UsageError(f"--output: is empty; {_WANTED}")
    if _is_address(text):
        return _open_address(text, info, web)
    segments = split_query(text)
    if segments is not None:
        retention = parse_retention(segments[1], text)
        _require_av("writing video")
        from qtseg_edge.runtime.sinks.segments import Segments

        return Segments(Path(segments[0]), info, retention, note)
    path = Path(text)
    if text.endswith(("/", os.sep)) or path.is_dir():
        return MaskFolder(path, info)
    name, suffix = path.name.lower(), path.suffix.lower()
    if name.endswith(_EVENTS):
        from qtseg_edge.runtime.sinks.events import EventLog

        return EventLog(_in_folder(path), info)
    if suffix == ".jsonl":
        return JsonLines(_in_folder(path))
    if name.endswith(_COCO):
        return CocoFile(_in_folder(path), info)
    if suffix in PICTURE_SUFFIXES:
        if not info.images or info.frames != 1:
            raise UsageError(f"--output {text}: holds one picture, {info.name} has more; wanted out.mp4 or masks/")
        return PictureFile(_in_folder(path))
    if suffix in VIDEO_SUFFIXES:
        _require_av("writing video")
        from qtseg_edge.runtime.sinks.video_writer import VideoFile

        return VideoFile(_in_folder(path), info)
    raise UsageError(f"--output {_shown(text)}: {_WANTED} (a directory of masks ends in a slash)")


def _open_address(text: str, info: SourceInfo, web: WebView | None) -> Sink:
    if text == _NULL:
        return NullSink()
    if text == _DISPLAY:
        from qtseg_edge.runtime.sinks.display import Display

        return Display(info.name)
    if text.startswith(_RTSP):
        _require_av("publishing")
        from qtseg_edge.runtime.sinks.rtsp_publisher import RtspPublisher

        return RtspPublisher(text, info)
    if text.startswith(_WEB) and web is not None:
        return web(info)
    raise UsageError(f"--output {_shown(text)}: {_WANTED}")


def _is_address(text: str) -> bool:
    return "://" in text


def _require_av(doing: str) -> None:
    if importlib.util.find_spec("av") is None:
        raise MissingError(f"{doing} needs PyAV; get it with: pip install 'qtseg-edge[cpu]'")


def _require_own_place(text: str, texts: list[str], files: tuple[Path, ...]) -> None:
    if _is_address(text):
        if text != _NULL and texts.count(text) > 1:
            raise UsageError("--output: the same address is given twice; leave one out")
        return
    path = _place(text)
    if sum(_place(other).resolve() == path.resolve() for other in texts if not _is_address(other)) > 1:
        raise UsageError(f"--output {text}: is given twice; leave one out")
    if path.is_file() and any(path.samefile(file) for file in files):
        raise UsageError(f"--output {text}: is the input itself; give another name")
    inside = [file for file in files if file.suffix.lower() == ".png" and path.is_dir() and path.samefile(file.parent)]
    if inside:
        raise UsageError(f"--output {text}: its masks would replace the input {inside[0].name}; give another folder")


def _place(text: str) -> Path:
    segments = split_query(text)
    return Path(text if segments is None else segments[0])


def _in_folder(path: Path) -> Path:
    if not path.parent.is_dir():
        raise UsageError(f"--output {_shown(path)}: no such folder; create it with: mkdir -p {_shown(path.parent)}")
    return path


def _shown(text: str | Path) -> str:
    """An address with a slash too few looks like a path, and holds its password all the same."""
    from qtseg_edge.runtime.sources.uri import redacted

    return redacted(str(text))
