"""From what the user typed to a source."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qtseg_edge.errors import MissingError, SourceLostError, UsageError
from qtseg_edge.runtime.frames import Source
from qtseg_edge.runtime.sources.files import open_files
from qtseg_edge.runtime.sources.opening import opened_within
from qtseg_edge.runtime.sources.realtime import Realtime
from qtseg_edge.runtime.sources.supervised import Patience, Supervised
from qtseg_edge.runtime.sources.uri import SourceUri, parse

_LONGEST_STALL_S = 3600
# An element that is not installed makes some versions of OpenCV wait for ever.
_OPENING_CURES = {
    "csi": "try it with: nvgstcapture-1.0",
    "gst": "check that gst-inspect-1.0 knows all its elements, and try it with: gst-launch-1.0 PIPELINE ! fakesink",
}
_HARDWARE_CURE = "leave out --decoder hardware"
_OPENING_CURE = "check that it is on, and that no other program hangs on it"


@dataclass(frozen=True)
class LiveOptions:
    """realtime: frames of a file come at their own times, as if it were live; live sources do so anyway. stall_timeout_s: a live source
    without a fresh frame for so long is opened again. restarts: how often in a row before it is given up, -1 for ever. rtsp_transport: of
    the pictures. every: not only the newest frame of a live source is wanted. decoder: what turns compressed video into pictures, of files
    as well; a Jetson's hardware hides damage that software finds.
    """

    realtime: bool = False
    stall_timeout_s: float = 5.0
    restarts: int = Patience.restarts
    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    every: bool = False
    decoder: Literal["software", "hardware"] = "software"

    @property
    def hardware(self) -> bool:
        return self.decoder == "hardware"


def open_source(text: str, options: LiveOptions | None = None, on_event: Callable[[str], None] = lambda _: None) -> Source:
    """text: a path, a directory of images, a glob pattern, or an address as `uri.parse` takes it.

    A live one is opened again when it fails; `on_event` gets one line when that happens, in another thread. Raises UsageError (unknown,
    or nothing there), MissingError (no such package or camera), SourceLostError (nobody answers at an address), QtsegError (not readable).
    """
    options = options or LiveOptions()
    if not 0 < options.stall_timeout_s <= _LONGEST_STALL_S or options.restarts < -1:
        given = f"{options.stall_timeout_s:g} s and {options.restarts} restarts"
        raise UsageError(f"{given}: wanted a stall timeout above 0 and up to {_LONGEST_STALL_S} s, and -1 restarts (for ever) or more")
    uri = parse(text)
    if uri.kind == "files" and options.hardware:
        source = opened_within(Patience.open_s, lambda: open_files(uri.value, hardware=True), uri.name, _HARDWARE_CURE)
    elif uri.kind == "files":
        source = open_files(uri.value)
    elif uri.kind == "testsrc":
        from qtseg_edge.runtime.sources.test_pattern import PatternSource

        source = PatternSource(uri.value, uri.name)
    else:
        patience = Patience(options.stall_timeout_s, max(Patience.open_s, 2 * options.stall_timeout_s), options.restarts)
        source = opened_within(patience.open_s, lambda: _open(uri, options), uri.name, _OPENING_CURES.get(uri.kind, _OPENING_CURE))
        if source.info.live:
            source = Supervised(source, lambda: _open_again(uri, options), patience, on_event, options.every)
    return Realtime(source) if options.realtime and not source.info.live else source


def _open_again(uri: SourceUri, options: LiveOptions) -> Source:
    source = _open(uri, options)
    if not source.info.live:
        source.close()
        raise SourceLostError(f"{uri.name}: was a live stream, and is a file now")
    return source


def _open(uri: SourceUri, options: LiveOptions) -> Source:
    if uri.kind == "network":
        return _open_network(uri, options)
    from qtseg_edge.runtime.sources.camera import open_camera, open_csi, open_gst

    if uri.kind == "camera":
        return open_camera(uri.value, uri.name, uri.mode, options.hardware)
    return open_csi(int(uri.value), uri.name, uri.mode) if uri.kind == "csi" else open_gst(uri.value, uri.name)


def _open_network(uri: SourceUri, options: LiveOptions) -> Source:
    if importlib.util.find_spec("av") is None:
        raise MissingError(f"{uri.name}: reading it needs PyAV; get it with: pip install 'qtseg-edge[cpu]'")
    if options.hardware:
        from qtseg_edge.runtime.sources.hardware_stream import open_hardware_stream

        return open_hardware_stream(uri.value, uri.name, options.stall_timeout_s, options.rtsp_transport)
    from qtseg_edge.runtime.sources.stream_reader import open_stream

    return open_stream(uri.value, uri.name, options.stall_timeout_s, options.rtsp_transport)
