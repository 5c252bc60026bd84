"""H.264 video that every browser plays: yuv420p, index at the front, the source's own time stamps."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError
from qtseg_edge.files import PendingFile
from qtseg_edge.runtime.frames import SourceInfo
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink
from qtseg_edge.transforms import Letterbox

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

_OPTIONS = {"preset": "veryfast", "crf": "21"}
# How swscale makes YUV of RGB (AVCOL_SPC_SMPTE170M, AVCOL_RANGE_MPEG). Untold, a player takes BT.709 for a large picture and tints it.
_BT601, _LIMITED_RANGE = 6, 1
# Containers store rates and time bases as 32-bit numbers; beyond this a time base is a measuring artefact.
_FINEST_TIME_BASE = Fraction(1, 1_000_000)


class VideoFile(Sink):
    """The overlay as a video. It takes its name when it is closed, with every frame written so far.

    The picture has the size of the first frame, to even numbers (H.264 wants them). Frames of another size are scaled to fit and
    padded; a further source goes on where the one before ended.
    """

    needs_picture = True

    def __init__(self, path: Path, info: SourceInfo) -> None:
        self.name = str(path)
        self._pending, self._info = PendingFile(path), info
        self._time_base = max(info.time_base, _FINEST_TIME_BASE)
        self._stream: VideoStream | None = None
        self._size_hw = (0, 0)
        self._source: str | None = None
        self._offset, self._last_pts = Fraction(0), -1
        self._last_time = self._last_step = Fraction(0)  # of the frame before, and how long it was shown
        options = {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
        try:
            self._container: OutputContainer = av.open(str(self._pending.temporary.absolute()), "w", options=options)
        except (FFmpegError, OSError) as error:
            raise _failed(path, error) from error

    def write(self, result: Result) -> None:
        picture = result.picture
        if self._stream is None:
            try:
                self._stream = self._opened(picture)
            except (FFmpegError, OSError) as error:
                raise _failed(self._pending.path, error) from error
        if self._source is not None and result.frame.source != self._source:
            self._offset = self._last_pts * self._time_base + (self._last_step or 1 / self._info.rate)
            self._last_step = Fraction(0)
        elif result.frame.time > self._last_time:
            self._last_step = result.frame.time - self._last_time
        self._source, self._last_time = result.frame.source, result.frame.time
        video_frame = av.VideoFrame.from_ndarray(self._fitted(picture), format="rgb24")
        pts = max(round((self._offset + result.frame.time) / self._time_base), self._last_pts + 1)
        video_frame.pts, video_frame.time_base = pts, self._time_base
        self._last_pts = pts
        try:
            self._container.mux(self._stream.encode(video_frame))
        except (FFmpegError, OSError) as error:
            raise _failed(self._pending.path, error) from error

    def close(self) -> None:
        try:
            if self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            self._pending.commit()
        except (FFmpegError, OSError) as error:
            self.abandon()
            raise _failed(self._pending.path, error) from error

    def _opened(self, picture: NDArray[np.uint8]) -> VideoStream:
        height, width = picture.shape[0] + picture.shape[0] % 2, picture.shape[1] + picture.shape[1] % 2
        self._size_hw = (height, width)
        stream = self._container.add_stream("libx264", rate=self._info.rate, options=_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = self._time_base
        stream.codec_context.sample_aspect_ratio = self._info.pixel_aspect
        stream.codec_context.colorspace, stream.codec_context.color_range = _BT601, _LIMITED_RANGE
        stream.thread_type = "AUTO"
        return stream

    def _fitted(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self._size_hw
        missing_h, missing_w = height - picture.shape[0], width - picture.shape[1]
        if (missing_h, missing_w) == (0, 0):
            return picture
        if missing_h in (0, 1) and missing_w in (0, 1):
            return np.pad(picture, ((0, missing_h), (0, missing_w), (0, 0)), mode="edge")
        return Letterbox((picture.shape[0], picture.shape[1]), self._size_hw).frame(picture)

    def abandon(self) -> None:
        with suppress(FFmpegError, OSError):  # the error that led here is the one to report
            self._container.close()
        self._pending.discard()


def _failed(path: Path, error: Any) -> QtsegError:
    reason = getattr(error, "strerror", None) or error
    return QtsegError(f"{path}: cannot be written ({reason}); nothing is left of it, give another --output")
