"""Which segments in a folder were written by `qtseg-edge run`, noted in a file there: only those may ever be removed."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.files import replacing
from qtseg_edge.runtime.sinks.base import reason_of, unwritable
from qtseg_edge.runtime.sinks.retention import Segment, dated_anew

LIST_NAME = "qtseg-edge-segments.json"
STAMP = "%Y%m%dT%H%M%SZ"  # of UTC; sorts by time, and every file system takes it
_SUFFIX = ".mp4"
_VERSION = 1
Note = Callable[[str], None]


@dataclass(frozen=True)
class _Writing:
    """A segment that has begun and is not noted as finished."""

    file: str
    started_at: datetime


class SegmentList:
    """Holds `folder` for one run, until `close`. finished: in the order in which they were recorded.

    What an earlier run was cut off from, its `NAME.recording.mp4`, takes its name NAME.mp4 first where it holds pictures. note: is told of
    that, and of every file that is removed. Raises UsageError where another run holds the folder, QtsegError where it cannot be used.
    """

    def __init__(self, folder: Path, note: Note) -> None:
        self._folder, self._note = folder, note
        self._descriptor = _locked(folder)
        try:
            self.finished, writing = self._read()
            self._writing: _Writing | None = None
            self.forget_missing()
            for left in writing:
                self._adopt(left)
            self._save()
        except OSError as error:
            self.close()
            raise unwritable(folder, error) from error

    def begin(self, moment: datetime) -> Path:
        """Where to write the segment that begins now. Raises QtsegError."""
        stem = moment.astimezone(timezone.utc).strftime(STAMP)
        for number in count(1):
            path = self._folder / f"{stem}{'' if number == 1 else f'-{number}'}{_SUFFIX}"
            if not path.exists() and not _recording(path).exists():
                break
        self._writing = _Writing(path.name, moment)
        self._save_or_raise()
        return path

    def end(self, moment: datetime, uptime_s: float) -> None:
        """The segment that was begun has its name, or there is nothing of it. `save` notes it. uptime_s: as in `Segment`.

        Those that this run recorded before the clock was set forward are dated anew: the next run has nothing but their dates.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            return
        path = self._folder / writing.file
        if path.is_file():
            segment = Segment(writing.file, writing.started_at, moment, path.stat().st_size, ended_uptime_s=uptime_s)
            self.finished.append(segment)
        self.finished = [dated_anew(segment, moment, uptime_s) for segment in self.finished]

    def save(self) -> None:
        """Raises QtsegError."""
        self._save_or_raise()

    def forget_missing(self) -> None:
        """What somebody has moved away takes no room here."""
        self.finished = [segment for segment in self.finished if os.path.lexists(self._folder / segment.file)]

    def remove(self, segments: Sequence[Segment], why: str) -> None:
        """Take these away, unless somebody has changed them since they were written: then they are nobody's here any more.

        Raises QtsegError where the folder does not let them go.
        """
        for segment in segments:
            path = self._folder / segment.file
            try:
                if not _is_as_written(path, segment):
                    self._note(f"qtseg-edge: {path}: is not as it was recorded; it stays, and counts no more")
                else:
                    path.unlink()
                    self._note(f"qtseg-edge: {path}: removed ({why}), {segment.bytes / 1e6:.1f} MB of {segment.ended_at:%F %R} UTC")
            except FileNotFoundError:
                pass
            except OSError as error:
                raise QtsegError(
                    f"{path}: cannot be removed ({reason_of(error)}), and {why} was asked for; give the run's user the right to"
                ) from error
            self.finished.remove(segment)

    def close(self) -> None:
        """Twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)  # and with it the lock
            self._descriptor = -1

    def _read(self) -> tuple[list[Segment], list[_Writing]]:
        path = self._folder / LIST_NAME
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["version"] != _VERSION:
                raise ValueError(f"version {_VERSION} wanted")
            finished = [_segment(entry) for entry in document["segments"]]
            writing = [_Writing(_plain(entry["file"]), _moment(entry["started_at"])) for entry in document["writing"]]
        except FileNotFoundError:
            return [], []
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            aside = _free_name(path)
            path.rename(aside)
            self._note(f"qtseg-edge: {path}: not readable ({type(error).__name__}), now {aside.name}; what it listed stays for good")
            return [], []
        return finished, writing

    def _adopt(self, left: _Writing) -> None:
        path = self._folder / left.file
        recording = _recording(path)
        if recording.is_file() and not path.exists():
            holds_pictures = _holds_pictures(recording)
            if holds_pictures is None:
                self._note(f"qtseg-edge: {recording}: an earlier run was cut off while it finalised this; it stays as it is, for good")
                return
            if not holds_pictures:
                recording.unlink()  # cut off before its first two seconds reached the disk
                return
            recording.rename(path)
            self._note(f"qtseg-edge: {path}: an earlier run was cut off while it wrote this; its last seconds may be missing")
        if path.is_file():
            found = path.stat()
            ended_at = datetime.fromtimestamp(found.st_mtime, timezone.utc)
            self.finished.append(Segment(left.file, left.started_at, ended_at, found.st_size, complete=False))

    def _save_or_raise(self) -> None:
        try:
            self._save()
        except OSError as error:
            path = self._folder / LIST_NAME
            raise QtsegError(
                f"{path}: cannot be written ({reason_of(error)}); the recordings so far are whole and stay; free some space"
            ) from error

    def _save(self) -> None:
        document = {
            "version": _VERSION,
            "about": "Recordings of qtseg-edge run. It removes these alone, as keep= and days= say. Move or rename a file to keep it.",
            "segments": [
                {
                    "file": segment.file,
                    "started_at": segment.started_at.isoformat(),
                    "ended_at": segment.ended_at.isoformat(),
                    "bytes": segment.bytes,
                    "complete": segment.complete,
                }
                for segment in self.finished
            ],
            "writing": [{"file": self._writing.file, "started_at": self._writing.started_at.isoformat()}] if self._writing else [],
        }
        lines = json.dumps(document, indent=0)
        with replacing(self._folder / LIST_NAME) as temporary:
            temporary.write_text(lines + "\n", encoding="utf-8")


def _locked(folder: Path) -> int:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise UsageError(f"--output {folder}/: another run records into it; give each run a folder of its own") from error
        raise unwritable(folder, error) from error
    return descriptor


def _segment(entry: dict[str, Any]) -> Segment:
    """Raises ValueError, KeyError, TypeError or AttributeError for anything that `_save` did not write."""
    size = entry["bytes"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or not isinstance(entry["complete"], bool):
        raise ValueError("bytes and complete are not what was written")
    return Segment(_plain(entry["file"]), _moment(entry["started_at"]), _moment(entry["ended_at"]), size, entry["complete"])


def _plain(name: str) -> str:
    """A name in the folder itself: what is removed must not be chosen by a path."""
    if name != os.path.basename(name) or not name.endswith(_SUFFIX):
        raise ValueError(f"{name!r} is not the name of a segment")
    return name


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment


def _is_as_written(path: Path, segment: Segment) -> bool:
    """A link is somebody else's file. Raises FileNotFoundError."""
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_size == segment.bytes


def _holds_pictures(path: Path) -> bool | None:
    """Whether pictures, an "mdat" box, and their "moov" are whole (ISO/IEC 14496-12, 4.2, 8.1, 8.2), as `VideoFile` flushes them first.

    Once finalised the pictures stand first, and nothing but the name is missing. None where they do and are not whole.
    """
    seen: list[bytes] = []
    for kind, is_whole in _boxes(path):
        seen.append(kind)
        if not is_whole:
            break
        if b"moov" in seen and b"mdat" in seen:
            return True
    return None if b"mdat" in seen and b"moov" not in seen[: seen.index(b"mdat")] else False


def _boxes(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Kind of each in the file itself, and whether it ends within the file; the last that is told of may not. A length of 1: it follows."""
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place + 8 <= size:
            file.seek(place)
            length, kind = struct.unpack(">I4s", file.read(8))
            if length == 1 and place + 16 <= size:
                (length,) = struct.unpack(">Q", file.read(8))
            is_whole = 8 <= length <= size - place
            yield kind, is_whole
            if not is_whole:
                return
            place += length


def _recording(path: Path) -> Path:
    """As `Recording` calls it."""
    return path.with_name(f"{path.stem}.recording{path.suffix}")


def _free_name(path: Path) -> Path:
    return next(
        aside for number in count(1) if not (aside := path.with_name(f"{path.name}.damaged{'' if number == 1 else f'-{number}'}")).exists()
    )
