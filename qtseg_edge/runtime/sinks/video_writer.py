"""H.264 video with the source's own time stamps, playable while it is written and whatever ends it."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.error import FFmpegError

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.frames import SourceInfo
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink, unwritable
from qtseg_edge.runtime.sinks.h264 import H264Encoder
from qtseg_edge.runtime.sinks.recording import Recording

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

_OPTIONS = {"preset": "veryfast", "crf": "21"}
_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
# Fragments while it is written, each playable as soon as it is there; closing makes a regular file of them, without moving a byte.
# Negative offsets rather than an edit list, which the FFmpeg of PyAV 14 gets wrong together with the rest.
_FRAGMENTED = {"movflags": "hybrid_fragmented+frag_keyframe+negative_cts_offsets"}
# Containers store rates and time bases as 32-bit numbers; beyond this a time base is a measuring artefact.
_FINEST_TIME_BASE = Fraction(1, 1_000_000)


class VideoFile(Sink):
    """The overlay as a video. It takes its name when it ends, with every frame that reached the disk.

    A crash or a power cut leaves `NAME.recording.mp4`, which plays and lacks the last seconds (docs of `Recording`). A frame of another
    size than the first is scaled to fit; a further source goes on where the one before ended. begins: `Frame.time` of the first frame, from
    which the video's own time counts.
    """

    needs_picture = True

    def __init__(self, path: Path, info: SourceInfo, begins: Fraction = Fraction(0)) -> None:
        self.name = str(path)
        self._info = info
        self._time_base = max(info.time_base, _FINEST_TIME_BASE)
        self._encoder: H264Encoder | None = None
        self._source: str | None = None
        self._offset, self._last_pts = -begins, -1
        self._last_time, self._last_step = begins, Fraction(0)  # of the frame before, and how long it was shown
        self._muxed = self._kept = 0  # packets given to the container, and on the disk
        self._kept_until = Fraction(0)
        self._is_broken = False  # a fragment is missing: what the muxer writes after it fits no more
        self._recording = Recording(path)
        kind = _FORMATS[path.suffix.lower()]
        try:
            options = {} if kind == "matroska" else _FRAGMENTED
            self._container: OutputContainer = av.open(self._recording, "w", format=kind, options=options)
        except FFmpegError as error:
            self._recording.discard()
            raise unwritable(path, error) from error

    @property
    def duration_s(self) -> float:
        """Of what was given to it: where the next frame would begin."""
        return float(self._last_pts * self._time_base + (self._last_step or 1 / self._info.rate))

    @property
    def bytes_written(self) -> int:
        """On the disk; what is encoded and not yet there comes later."""
        return self._recording.size

    def write(self, result: Result) -> None:
        picture = result.picture
        pts = self._pts_of(result)
        try:
            if self._encoder is None:
                self._encoder = self._opened((picture.shape[0], picture.shape[1]))
            self._mux(self._encoder.encode(picture, pts))
        except (FFmpegError, OSError) as error:
            self._is_broken = True
            raise self._stopped(error) from error

    def close(self) -> None:
        try:
            self._finalise()
        except (FFmpegError, OSError) as error:
            self._keep()
            raise self._stopped(error) from error
        self._keep()

    def abandon(self) -> None:
        with suppress(FFmpegError, OSError):  # the error that led here is the one to report
            if self._is_broken:
                self._container.close()
            else:
                self._finalise()
        with suppress(QtsegError):
            self._keep()

    def _opened(self, size_hw: tuple[int, int]) -> H264Encoder:
        info = self._info
        return H264Encoder(self._container, size_hw, _OPTIONS, rate=info.rate, time_base=self._time_base, pixel_aspect=info.pixel_aspect)

    def _pts_of(self, result: Result) -> int:
        frame = result.frame
        if self._source is not None and frame.source != self._source:
            self._offset = self._last_pts * self._time_base + (self._last_step or 1 / self._info.rate)
            self._last_step = Fraction(0)
        elif frame.time > self._last_time:
            self._last_step = frame.time - self._last_time
        self._source, self._last_time = frame.source, frame.time
        self._last_pts = max(round((self._offset + frame.time) / self._time_base), self._last_pts + 1)
        return self._last_pts

    def _mux(self, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            assert packet.pts is not None
            begins = packet.pts * self._time_base
            self._container.mux(packet)
            if self._recording.flush():  # a fragment, written when its successor's key frame comes
                self._kept, self._kept_until = self._muxed, begins
            self._muxed += 1

    def _finalise(self) -> None:
        if self._encoder is not None:
            self._mux(self._encoder.flush())
        self._container.close()
        self._recording.flush()
        self._kept = self._muxed

    def _keep(self) -> None:
        if self._kept:
            self._recording.keep()
        else:
            self._recording.discard()

    def _stopped(self, error: Exception) -> QtsegError:
        return self._recording.stopped(self._kept, float(self._kept_until), error)
