"""From what the user named to candidate frames: evenly over time, never neighbours, with the useless ones counted and left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from qtseg_edge.calibration.look import Look, look_at
from qtseg_edge.data import IMAGE_SUFFIXES
from qtseg_edge.errors import QtsegError, SourceLostError, UsageError
from qtseg_edge.runtime.frames import Frame
from qtseg_edge.runtime.sources import open_source

_VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
_LEAST_GAP = Fraction(1, 5)  # seconds between two candidates of one video


@dataclass(frozen=True)
class Stream:
    """One video, or the images of one folder or pattern in order: what gets a fair share of the set."""

    name: str
    files: tuple[Path, ...]
    images: bool


@dataclass(frozen=True)
class Candidate:
    """stream: index of it. path, index, time: as in `Frame`. position: 0 to 1 along its stream."""

    stream: int
    path: Path
    index: int
    time: Fraction
    position: float
    look: Look


def streams_of(sources: Iterable[str]) -> list[Stream]:
    """Every image folder or pattern and every video is one stream. UsageError (nothing there), QtsegError (not readable)."""
    streams: list[Stream] = []
    for text in sources:
        for part in _parts(text):
            with open_source(part) as source:
                files = source.info.files
                if source.info.images:
                    streams.append(Stream(Path(part).name, files, True))
                else:
                    streams += [Stream(path.name, (path,), False) for path in files]
    return streams


def candidates_of(number: int, stream: Stream, limit: int, on_look: Callable[[], None]) -> list[Candidate]:
    """At most `limit` frames, evenly spread over the stream and looked at; those with a fault too. number: the stream's index."""
    looked = _of_images(stream, limit, on_look) if stream.images else _of_video(stream.files[0], limit, on_look)
    last = max(len(looked) - 1, 1)
    return [Candidate(number, frame, index, time, place / last, look) for place, (frame, index, time, look) in enumerate(looked)]


def chosen_frames(stream: Stream, chosen: list[Candidate]) -> Iterator[tuple[Candidate, Frame]]:
    """The chosen candidates of one stream with their pixels, in order; the frames are decoded again."""
    if stream.images:
        for candidate in chosen:
            yield from ((candidate, frame) for frame in _frames(candidate.path))
        return
    wanted = {candidate.index: candidate for candidate in chosen}
    frames = _frames(stream.files[0]) if wanted else iter(())
    for frame in frames:
        if frame.index in wanted:
            yield wanted.pop(frame.index), frame
        if not wanted:
            return
    if wanted:
        raise QtsegError(
            f"{stream.files[0]}: lost frame {min(wanted)} between two readings; was it changed meanwhile? Run the command again"
        )


_Looked = tuple[Path, int, Fraction, Look]


def _of_images(stream: Stream, limit: int, on_look: Callable[[], None]) -> list[_Looked]:
    step = max(Fraction(1), Fraction(len(stream.files), limit))
    places = (int(place * step) for place in range(min(limit, len(stream.files))))
    return [_looked(frame, on_look) for place in places for frame in _frames(stream.files[place])]


def _of_video(path: Path, limit: int, on_look: Callable[[], None]) -> list[_Looked]:
    """Its length need not be known: when there are too many, every second one goes and the gap doubles."""
    gap, looked = _LEAST_GAP, list[_Looked]()
    for frame in _frames(path):
        if looked and frame.time - looked[-1][2] < gap:
            continue
        if len(looked) == limit:
            looked, gap = looked[::2], 2 * gap
            if frame.time - looked[-1][2] < gap:
                continue
        looked.append(_looked(frame, on_look))
    return looked


def _looked(frame: Frame, on_look: Callable[[], None]) -> _Looked:
    look = look_at(frame.rgb)
    on_look()
    return Path(frame.source), frame.index, frame.time, look


def _frames(path: Path) -> Iterator[Frame]:
    last = 0
    with open_source(str(path)) as source:
        try:
            for frame in source:
                last = frame.index
                yield frame
        except SourceLostError as error:
            raise SourceLostError(
                f"{path}: breaks after frame {last}; wanted a file that plays to its end, nothing was written; "
                f"repair it first: ffmpeg -i {path.name} -c:v libx264 -qp 0 repaired.mp4"
            ) from error


def _parts(text: str) -> list[str]:
    """A folder is its images and each of its videos; anything else is left to `open_source`."""
    folder = Path(text)
    if not folder.is_dir():
        return [text]
    suffixes = [(path, path.suffix.lower()) for path in sorted(folder.iterdir())]
    parts = [text] if any(suffix in IMAGE_SUFFIXES for _, suffix in suffixes) else []
    parts += [str(path) for path, suffix in suffixes if suffix in _VIDEO_SUFFIXES]
    if not parts:
        raise UsageError(f"{text}: holds neither images nor videos; give a folder with some, a video or a quoted pattern")
    return parts
