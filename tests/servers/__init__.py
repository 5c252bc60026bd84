"""The other side of network sources: real servers on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

_PYTHON = "/usr/bin/python3"


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
