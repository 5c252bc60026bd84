"""Network streams through PyAV: live ones, and files that come over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import av
from av.codec.context import Flags
from av.error import FFmpegError, HTTPForbiddenError, HTTPNotFoundError, HTTPUnauthorizedError

from qtseg_edge.errors import SourceLostError
from qtseg_edge.runtime.frames import Frame, Source, SourceInfo, SourceStatus
from qtseg_edge.runtime.sources.arrival import ArrivalClock
from qtseg_edge.runtime.sources.h264_gaps import GapFinder
from qtseg_edge.runtime.sources.live import LIVE_TIME_BASE, LiveClock, SharedHandle, credible_rate
from qtseg_edge.runtime.sources.uri import redacted
from qtseg_edge.runtime.sources.video_reader import VideoReader, reason_of, upright, video_stream

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

Transport = Literal["tcp", "udp"]
# Not nobuffer: it throws away what was read to learn the stream's form, most often the only key frame for seconds.
_OPTIONS = {"analyzeduration": "500000"}  # microseconds; all that FFmpeg would take by itself is waited for by whoever opens
_RTSP_OPTIONS = {"reorder_queue_size": "16", "max_delay": "100000"}  # UDP: packets and microseconds to wait for one that is late
_STAMPED_FORMATS = frozenset({"rtsp", "flv", "mpegts"})  # their times are the sender's; those of others may be made up from a rate
_H264 = "h264"


class RemoteVideo(VideoReader):
    """A video file over HTTP: every frame, as from a disk. Owns `container`. name: fit to be shown."""

    def __init__(self, container: InputContainer, name: str) -> None:
        self._begin(container, name, ())


class StreamReader(Source):
    """A live stream. Owns `container`. name: fit to be shown.

    Damaged pictures are thrown away and counted, and so are all that follow until the decoder can start anew at a key frame: they are
    made up from the damaged ones. A lost picture is damage too, in H.264 (see GapFinder) and HEVC. What is not found: part of a picture
    lost over UDP where the rest happens to decode, and a whole one in other codecs; TCP loses nothing by itself. `captured_at` is when a
    picture's data arrived, moved back by what it came late. What came while the stream was being opened is not given.
    """

    def __init__(self, container: InputContainer, name: str) -> None:
        self._name, self._container = name, container
        self._handle = SharedHandle(container.close)
        stream = self._stream = video_stream(container, name)
        codec = stream.codec_context
        self.codec = codec.name  # as FFmpeg calls it
        codec.thread_count = 1  # threads by frame hold back a picture each, threads by slice do not tell what they find damaged
        codec.flags |= Flags.low_delay
        codec.options = {"err_detect": "explode"}
        self._gaps = GapFinder(codec.extradata) if codec.name == _H264 else None
        self._arrivals = ArrivalClock(stream.time_base if container.format.name in _STAMPED_FORMATS else None)
        self._state: Literal["starting", "clean", "damaged"] = "starting"
        self._damaged = 0
        rate = credible_rate(stream.average_rate or stream.guessed_rate)
        size_hw = (codec.height, codec.width) if codec.height and codec.width else None
        aspect = stream.sample_aspect_ratio or Fraction(1)
        self.info = SourceInfo(name, rate, LIVE_TIME_BASE, None, aspect, live=True, size_hw=size_hw)

    @property
    def status(self) -> SourceStatus:
        return SourceStatus(damaged=self._damaged)

    def __iter__(self) -> Iterator[Frame]:
        """Raises SourceLostError where the peer fails, or says nothing for the time given at opening."""
        clock, index = LiveClock(), 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                with self._handle.in_use() as usable:
                    packet = next(packets, None) if usable else None
                    if packet is None:
                        return
                    started = time.perf_counter()
                    arrived = self._arrivals.arrived(packet.pts, started)
                    pictures = self._clean_pictures(packet)
                    rgbs = [(self._arrivals.captured_at(picture.pts, arrived), upright(picture)) for picture in pictures]
                    if not self._arrivals.is_current:
                        continue
            except (FFmpegError, OSError) as error:
                raise SourceLostError(f"{self._name}: {reason_of(error)}") from None
            for captured_at, rgb in rgbs:
                decode_ms = (time.perf_counter() - started) * 1e3
                yield Frame(rgb, index, clock.time_of(captured_at), self._name, decode_ms, captured_at)
                index += 1

    def close(self) -> None:
        self._handle.close()

    def _clean_pictures(self, packet: Packet[VideoStream]) -> list[av.VideoFrame]:
        clean: list[av.VideoFrame] = []
        if packet.is_corrupt:
            self._start_anew()
        else:
            if self._gaps and self._gaps.is_gap_before(bytes(packet)):
                self._start_anew()
            try:
                clean = [picture for picture in packet.decode() if self._is_clean(picture)]
            except FFmpegError:
                self._start_anew()
        if self._state == "damaged" and packet.size:  # the one at the end is empty
            self._damaged += 1
        return clean

    def _is_clean(self, picture: av.VideoFrame) -> bool:
        if picture.is_corrupt:
            self._start_anew()
        # FFmpeg's decoder of H.264 gives nothing after a flush until its pictures are right again, with or without a key frame.
        elif self._gaps or picture.key_frame:
            self._state = "clean"
        return self._state == "clean"

    def _start_anew(self) -> None:
        self._state = "damaged"
        self._stream.codec_context.flush_buffers()


def open_stream(url: str, name: str, timeout_s: float, transport: Transport = "tcp") -> RemoteVideo | StreamReader:
    """A live stream, or over HTTP a file where the server tells its length. name: fit to be shown.

    timeout_s: how long the peer may say nothing, at opening and at every read. Raises SourceLostError (nobody there, refused, not a
    stream), QtsegError (no video in it).
    """
    options = {**_OPTIONS, **_RTSP_OPTIONS, "rtsp_transport": transport} if url.startswith("rtsp") else _OPTIONS
    started = time.perf_counter()
    try:
        container = av.open(url, options=dict(options), timeout=(timeout_s, timeout_s))
    except (FFmpegError, OSError, ValueError) as error:
        # FFmpeg may take an answer that did not come for one that is wrong.
        is_silent = time.perf_counter() - started >= timeout_s
        reason = "the other side says nothing" if is_silent else redacted(reason_of(error))
        raise SourceLostError(f"{name}: cannot be opened ({reason}); {_cure(error)}") from None
    if url.startswith("http") and container.duration is not None:
        return RemoteVideo(container, name)
    return StreamReader(container, name)


def _cure(error: Exception) -> str:
    if isinstance(error, (HTTPUnauthorizedError, HTTPForbiddenError)):
        return "give the right user and password, as in rtsp://USER:PASSWORD@HOST/PATH"
    if isinstance(error, HTTPNotFoundError):
        return "check the path behind the host"
    return "check the address, that the other side is on, and try it with: ffprobe ADDRESS"
