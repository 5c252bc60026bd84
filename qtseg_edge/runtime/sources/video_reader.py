"""Video files through PyAV: every frame upright, with its exact time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
from av.error import ExitError, FFmpegError, InvalidDataError
from av.stream import Disposition
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, SourceLostError
from qtseg_edge.runtime.frames import Frame, Source, SourceInfo
from qtseg_edge.runtime.sources.live import SharedHandle

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_UNKNOWN_RATE = Fraction(25)
_TEXT_CODECS = frozenset({"ansi", "bintext", "idf", "xbin"})  # FFmpeg draws text files as video
_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
# A file may announce slightly more than it holds (edit lists, rounding); a cut-off file lacks more.
_SHORTFALL_SECONDS, _SHORTFALL_SHARE = Fraction(1, 2), Fraction(1, 50)


class VideoReader(Source):
    """A video file that PyAV opens. Raises QtsegError when it is none.

    A damaged picture ends the reading with SourceLostError: what the decoder makes up for it must not be segmented. So does an end
    well before the announced one. Damage is found where the decoder finds it: most of it in H.264 and MPEG-4 (on arm64 about two
    thirds of it in H.264: docs/decisions/0028-arm64.md), little in HEVC and VP9, which carry nothing to check a picture by.
    """

    def __init__(self, path: Path) -> None:
        try:
            container = av.open(str(path.absolute()))  # "12:30.mp4" alone would be a protocol
        except (FFmpegError, OSError, ValueError) as error:
            raise QtsegError(f"{path}: not a video that can be opened ({reason_of(error)})") from error
        self._begin(container, str(path), (path,))

    def _begin(self, container: InputContainer, name: str, files: tuple[Path, ...]) -> None:
        """name: fit to be shown. The container is closed where there is nothing to read in it."""
        self._name, self._container = name, container
        self._handle = SharedHandle(container.close)
        self._stream = video_stream(container, name)
        self._stream.thread_type = "AUTO"
        # Otherwise the pictures around a damaged one, which are made up from it, come without a mark of their own.
        self._stream.codec_context.options = {"err_detect": "explode"}
        rate = self._stream.average_rate or self._stream.guessed_rate or _UNKNOWN_RATE
        time_base = self._stream.time_base or 1 / rate
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        self.info = SourceInfo(name, rate, time_base, self._expected_frames(rate), aspect, files=files)

    def __iter__(self) -> Iterator[Frame]:
        index, first, last = 0, Fraction(0), Fraction(0)
        pictures = self._pictures()
        while True:
            captured_at = time.perf_counter()
            try:
                with self._handle.in_use() as usable:
                    if not usable:
                        return
                    picture = next(pictures, None)
                    if picture is None:
                        return self._require_end(index, last)
                    pts, rgb = picture
            except (FFmpegError, OSError) as error:
                # FFmpeg's own words repeat an address with its password.
                raise self._broken(index, last, reason_of(error)) from (error if self.info.files else None)
            stamp = None if pts is None else pts * self.info.time_base
            if index == 0:
                first = stamp or Fraction(0)
            elif stamp is not None and stamp - first > last:
                last = stamp - first
            else:  # a raw stream has no times, H.264 in AVI has wrong ones
                last += 1 / self.info.rate
            yield Frame(rgb, index, last, self._name, (time.perf_counter() - captured_at) * 1e3, captured_at)
            index += 1

    def close(self) -> None:
        self._handle.close()

    def _pictures(self) -> Iterator[tuple[int | None, NDArray[np.uint8]]]:
        """Time stamps, in units of the stream, and RGB, upright. Raises FFmpegError where one is damaged."""
        for packet in self._container.demux(self._stream):
            if packet.is_corrupt:
                raise InvalidDataError(0, "damaged packet")
            for picture in packet.decode():
                if picture.is_corrupt:
                    raise InvalidDataError(0, "damaged picture")
                yield picture.pts, upright(picture)

    def _expected_frames(self, rate: Fraction) -> int | None:
        if self._stream.frames:
            return self._stream.frames
        seconds = self._announced_seconds()
        return None if seconds is None else round(seconds * rate)

    def _announced_seconds(self) -> Fraction | None:
        """What the stream says of its own length; the container's length may be that of a longer sound track."""
        if text := self._stream.metadata.get("DURATION"):  # Matroska: 00:00:10.040000000
            try:
                hours, minutes, seconds = text.split(":")
                return Fraction(seconds) + 60 * int(minutes) + 3600 * int(hours)
            except ValueError:
                return None
        # Without an index of its own, a stream beside others may have been given the length of the longest of them.
        own = self._stream.frames or len(self._container.streams) == 1
        if not own or self._stream.duration is None or self._stream.time_base is None:
            return None
        return self._stream.duration * self._stream.time_base

    def _require_end(self, frames: int, last: Fraction) -> None:
        if frames == 0:
            raise QtsegError(f"{self._name}: holds no frame that can be decoded")
        announced = self._announced_seconds()
        if announced is None or 0 < self._stream.frames <= frames:  # the last picture may be shown for long
            return
        missing = announced - (last + 1 / self.info.rate)
        if missing > max(_SHORTFALL_SECONDS, announced * _SHORTFALL_SHARE):
            raise self._broken(frames, last, f"{float(missing):.1f} s missing of the {float(announced):.1f} s it announces")

    def _broken(self, frames: int, last: Fraction, reason: str) -> QtsegError:
        if frames == 0:
            return QtsegError(f"{self._name}: not a video that can be decoded ({reason})")
        return SourceLostError(
            f"{self._name}: broke after frame {frames - 1} at {float(last):.2f} s ({reason}); everything before is written"
        )


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """Its first one that is no cover. Raises QtsegError, the container closed, where it has none that can be decoded."""
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    codec = streams[0].codec_context if streams else None
    if streams and codec and codec.name not in _TEXT_CODECS:
        return streams[0]
    container.close()
    if streams and codec is None:
        raise QtsegError(f"{name}: FFmpeg has no decoder for its video; convert it to H.264 where it was made")
    raise QtsegError(f"{name}: holds no video stream")


def upright(picture: av.VideoFrame) -> NDArray[np.uint8]:
    """RGB (h, w, 3) uint8, turned as the picture asks to be."""
    return turned(picture.to_ndarray(format="rgb24").astype(np.uint8, copy=False), picture.rotation)


def turned(rgb: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    """degrees: counterclockwise, as FFmpeg tells them; what is no quarter turn leaves it as it is."""
    turn = _TURNS.get(round(degrees) % 360)
    return rgb if turn is None else cv2.rotate(rgb, turn)  # type: ignore[return-value]


def reason_of(error: Any) -> str:
    """In FFmpeg's words, which do not repeat the address."""
    if isinstance(error, ExitError):  # "Immediate exit requested", by the time limit
        return "the other side says nothing"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
