"""The other side of network sources: real servers on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

_PYTHON = "/usr/bin/python3"
_CELL, _COLUMNS, _BITS = 16, 8, 24  # as in rtsp_server.py


class RtspServer:
    """The process of `rtsp_server.py`. port: 0 lets the system choose."""

    def __init__(self, port: int = 0, *login: str) -> None:
        script = str(Path(__file__).with_name("rtsp_server.py"))
        self._process = subprocess.Popen([_PYTHON, script, str(port), *login], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}/live"

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def require_rtsp_server() -> None:
    """Skip where Debian's GStreamer RTSP server is not installed."""
    code = "import gi, numpy; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer; Gst.init(None)\n"
    code += "assert all(Gst.ElementFactory.find(name) for name in ('x264enc', 'rtph264pay', 'appsrc', 'videoconvert'))"
    packages = "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly python3-gi python3-numpy"
    try:
        found = subprocess.run([_PYTHON, "-c", code], capture_output=True, timeout=60).returncode == 0
    except OSError:
        found = False
    if not found:
        pytest.skip(f"no GStreamer RTSP server; get it with: apt install {packages}")


def born_at(rgb: NDArray[np.uint8]) -> float:
    """When a picture of `rtsp_server.py` was made, in seconds of the system's monotonic clock modulo 2**24 milliseconds."""
    cells = rgb[: _CELL * (_BITS // _COLUMNS), : _CELL * _COLUMNS, 1].reshape(_BITS // _COLUMNS, _CELL, _COLUMNS, _CELL)
    levels = cells[:, 4:-4, :, 4:-4].mean(axis=(1, 3)).ravel()
    return sum(1 << bit for bit, level in enumerate(levels) if level > 120) / 1000


def age_of(rgb: NDArray[np.uint8], now: float) -> float:
    """Seconds that a picture of `rtsp_server.py` is old. now: `time.monotonic()`."""
    return (now - born_at(rgb)) % (2**_BITS / 1000)
