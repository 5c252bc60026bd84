"""RTSP through a Jetson's hardware decoder."""

from __future__ import annotations

from dataclasses import replace

from qtseg_edge.errors import SourceLostError, UsageError
from qtseg_edge.runtime.sources.camera import Camera, begun, gstreamer_capture
from qtseg_edge.runtime.sources.jetson_pipelines import Codec, RtspStream, pipeline, require_hardware
from qtseg_edge.runtime.sources.stream_reader import StreamReader, Transport, open_stream

CODECS: dict[str, Codec] = {"h264": "h264", "hevc": "h265"}  # by FFmpeg's names


def open_hardware_stream(url: str, name: str, timeout_s: float, transport: Transport) -> Camera:
    """Asked first by PyAV, which says what is wrong with an address, what the stream is, and that it is alive.

    Its pictures carry no marks of damage, and `captured_at` is when they left the decoder. Raises UsageError (hardware does not do this),
    MissingError (no such hardware here), and what `open_stream` raises.
    """
    if not url.startswith("rtsp://"):
        raise UsageError(f"{name}: --decoder hardware reads rtsp://, files and cameras; leave it out")
    generation = require_hardware(name)
    with open_stream(url, name, timeout_s, transport) as asked:
        codec = asked.codec if isinstance(asked, StreamReader) else ""
        info = asked.info
    if codec not in CODECS:
        raise UsageError(f"{name}: --decoder hardware reads H.264 and H.265, this is {codec or 'a file'}; leave it out")
    text = pipeline(RtspStream(url, CODECS[codec], transport), generation)
    broken = SourceLostError(f"{name}: the hardware decoder gives no pictures; leave out --decoder hardware")
    camera = begun(gstreamer_capture(text, name), name, broken)
    camera.info = replace(camera.info, rate=info.rate, pixel_aspect=info.pixel_aspect)
    return camera
