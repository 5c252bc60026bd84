"""Video files through a Jetson's hardware decoder: GStreamer gives the pictures, PyAV what the file says of them."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
from av.error import FFmpegError, InvalidDataError
from numpy.typing import NDArray

from qtseg_edge.errors import MissingError, QtsegError, UsageError
from qtseg_edge.runtime.handoff import Handoff, HandoffClosedError
from qtseg_edge.runtime.sources.camera import gstreamer_capture
from qtseg_edge.runtime.sources.hardware_stream import CODECS
from qtseg_edge.runtime.sources.jetson_pipelines import VideoFile, pipeline, require_hardware
from qtseg_edge.runtime.sources.live import SharedHandle
from qtseg_edge.runtime.sources.video_reader import VideoReader, turned, upright, video_stream

_FORMATS: dict[str, Literal["mp4", "mkv"]] = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "mkv"}  # by FFmpeg's names
_PIXELS = ("yuv420p", "yuvj420p")
_REORDERED = 16  # pictures that a stream of H.264 or H.265 may hold back
_MOST_DIFFERENCE = 8.0  # of 255, mean over a picture; another conversion of colours differs by 2 or 3
_SILENCE_S = 30.0
_CURE = "leave out --decoder hardware"


class HardwareVideo(VideoReader):
    """A video file whose pictures the hardware decodes. Raises what VideoReader does; UsageError (the hardware does not read such a file),
    MissingError (no such hardware here).

    The hardware does not tell what it found damaged, and gives no time stamps. So the times come from the packets, in their order of
    showing; there must be as many pictures as packets; the first picture must be the one that software decodes; and the reading ends with
    SourceLostError where a packet is marked as damaged, where the counts differ, or well before the announced end. What stays hidden is
    damage inside of packets.
    """

    def __init__(self, path: Path) -> None:
        generation = require_hardware(str(path))
        super().__init__(path)
        try:
            wanted = self._wanted(path)
            self._degrees, self._first = _first_in_software(path)
            self._decoder = _Decoder(gstreamer_capture(pipeline(wanted, generation), str(path)))
        except BaseException:
            self.close()
            raise
        self._handle = SharedHandle(self._free)

    def _free(self) -> None:
        self._decoder.stop()
        self._container.close()

    def _wanted(self, path: Path) -> VideoFile:
        codec, container = self._stream.codec_context, _FORMATS.get(self._container.format.name)
        videos = len(self._container.streams.video)
        if container is None or codec.name not in CODECS or codec.pix_fmt not in _PIXELS or videos != 1:
            wanted = "one video stream of H.264 or H.265, 8 bits 4:2:0, in mp4, mov or mkv"
            came = f"{videos} of {codec.name} {codec.pix_fmt} in {self._container.format.name}"
            raise UsageError(f"{path}: --decoder hardware reads {wanted}, this has {came}; {_CURE}")
        return VideoFile(path, container, CODECS[codec.name])

    def _pictures(self) -> Iterator[tuple[int | None, NDArray[np.uint8]]]:
        stamps, is_first = self._stamps(), True
        for bgr in self._decoder.pictures():
            stamp = next(stamps, None)
            if stamp is None:
                raise InvalidDataError(0, f"the hardware gives more pictures than the file has; {_CURE}")
            rgb = turned(_rgb(bgr), self._degrees)
            if rgb.shape != self._first.shape:
                raise InvalidDataError(0, f"the hardware gives another size of picture; {_CURE}")
            if is_first:
                self._require_same(rgb)
                is_first = False
            yield stamp, rgb
        if next(stamps, None) is not None:
            raise InvalidDataError(0, f"the hardware gives fewer pictures than the file has; {_CURE}")

    def _stamps(self) -> Iterator[int]:
        """Of the packets, in the order in which their pictures are shown."""
        waiting: list[int] = []
        is_first = True
        for packet in self._container.demux(self._stream):
            if packet.is_corrupt:
                raise InvalidDataError(0, "damaged packet")
            if not packet.size or packet.is_discard:  # the one at the end is empty
                continue
            if packet.pts is None or (is_first and not packet.is_keyframe):
                what = "has no time" if packet.pts is None else "is no key frame"
                raise InvalidDataError(0, f"a packet {what}, which the hardware needs; {_CURE}")
            is_first = False
            heapq.heappush(waiting, packet.pts)
            if len(waiting) > _REORDERED:
                yield heapq.heappop(waiting)
        while waiting:
            yield heapq.heappop(waiting)

    def _require_same(self, rgb: NDArray[np.uint8]) -> None:
        difference = float(np.abs(rgb.astype(np.int16) - self._first).mean())
        if difference > _MOST_DIFFERENCE:
            raise InvalidDataError(0, f"the hardware's first picture is off by {difference:.0f} of 255 from the one by software; {_CURE}")


class _Decoder:
    """Reads `capture` in a thread of its own, which is left alone where it hangs."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self._handoff: Handoff[NDArray[Any]] = Handoff(2, "all")
        self._thread = threading.Thread(target=self._run, name="hardware decoder", daemon=True)
        self._thread.start()

    def pictures(self) -> Iterator[NDArray[Any]]:
        """BGR, up to the end. Raises InvalidDataError where the decoder says nothing."""
        while True:
            try:
                yield self._handoff.get(_SILENCE_S)
            except HandoffClosedError:
                return
            except TimeoutError:
                raise InvalidDataError(0, f"the hardware gives no picture for {_SILENCE_S:g} s; {_CURE}") from None

    def stop(self) -> None:
        """Never waits."""
        self._handoff.cancel()

    def _run(self) -> None:
        try:
            while (picture := self._capture.read()[1]) is not None:
                self._handoff.put(picture)
        except HandoffClosedError:
            pass
        finally:
            self._capture.release()
            self._handoff.finish()


def _first_in_software(path: Path) -> tuple[float, NDArray[np.uint8]]:
    """By how many degrees the file wants to be turned, and its first picture, turned."""
    try:
        with av.open(str(path.absolute())) as container:
            picture = next(container.decode(video_stream(container, str(path))), None)
            if picture is not None:
                return picture.rotation, upright(picture)
    except (FFmpegError, OSError, ValueError) as error:
        raise QtsegError(f"{path}: not a video that can be decoded ({error})") from error
    raise QtsegError(f"{path}: holds no frame that can be decoded")


def _rgb(bgr: NDArray[Any]) -> NDArray[np.uint8]:
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3:
        raise MissingError(f"the hardware decoder gives {bgr.shape} {bgr.dtype} instead of BGR; {_CURE}")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]
