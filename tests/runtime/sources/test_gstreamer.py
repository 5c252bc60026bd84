"""A real GStreamer through an OpenCV that has it: Debian's, as old as a Jetson's, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

_PYTHON = "/usr/bin/python3"
_READ = """
import json, sys, threading
from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.sources import LiveOptions, open_source
result = {}
try:
    with open_source(sys.argv[1], LiveOptions(stall_timeout_s=float(sys.argv[2]), restarts=0)) as source:
        result["size_hw"], result["rate"] = source.info.size_hw, float(source.info.rate)
        frames = [frame for frame, _ in zip(source, range(15))]
        lit = [frame for frame in frames if frame.has_signal]
        result["shape"], result["dtype"] = lit[-1].rgb.shape, str(lit[-1].rgb.dtype)
        result["bars"] = lit[-1].rgb[50, 22::45].tolist()
        result["times"] = [float(frame.time) for frame in frames]
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(10)
    result["threads"] = threading.active_count()
except QtsegError as error:
    result["error"], result["exit"] = str(error), error.exit_code
print(json.dumps(result), flush=True)
"""


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    code = "import cv2; assert cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)"
    code += "; assert cv2.VideoCapture('videotestsrc num-buffers=1 ! videoconvert ! appsink', cv2.CAP_GSTREAMER).isOpened()"
    if not Path(_PYTHON).exists() or subprocess.run([_PYTHON, "-c", code], capture_output=True, timeout=60).returncode:
        pytest.skip("no OpenCV with GStreamer; get it with: apt install python3-opencv gstreamer1.0-plugins-base")


def read(address: str, stall_timeout_s: float = 5.0) -> tuple[dict[str, Any], str]:
    """What came of it, and everything that was printed besides."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OPENCV_LOG_LEVEL": "SILENT"}  # as the command sets it
    done = subprocess.run(
        [_PYTHON, "-c", _READ, address, str(stall_timeout_s)], capture_output=True, text=True, timeout=100, env=environment, cwd="/"
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_pipeline_gives_pictures_in_rgb() -> None:
    result, _ = read("gst://videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1")
    assert (result["size_hw"], result["rate"]) == ([240, 320], 30)
    assert (result["shape"], result["dtype"]) == ([240, 320, 3], "uint8")
    white, yellow, cyan, green, magenta, red, blue = (tuple(round(value / 255) for value in bar) for bar in result["bars"])
    assert (white, yellow, cyan, green) == ((1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0))
    assert (magenta, red, blue) == ((1, 0, 1), (1, 0, 0), (0, 0, 1))
    assert result["times"] == sorted(set(result["times"]))
    assert result["threads"] == 1


@pytest.mark.parametrize("caps", ["video/x-raw,format=NV12", "video/x-raw,format=RGBA"])
def test_a_sink_of_ones_own_must_get_bgr(caps: str) -> None:
    result, _ = read(f"gst://videotestsrc is-live=true ! {caps},width=320,height=240 ! appsink")
    assert "wanted BGR of 8 bits" in result["error"]


def test_a_sink_of_ones_own_that_gets_bgr_is_taken() -> None:
    result, _ = read("gst://videotestsrc is-live=true ! video/x-raw,format=BGR,width=320,height=240 ! appsink drop=1")
    assert result["shape"] == [240, 320, 3]


def test_a_pipeline_that_ends_is_lost() -> None:
    result, _ = read("gst://videotestsrc is-live=true num-buffers=8 ! video/x-raw,width=320,height=240")
    assert result["exit"] == 6 and "gives no more pictures" in result["error"]


def test_a_pipeline_that_does_not_run_is_an_error_that_says_how_to_try_it_and_no_password() -> None:
    result, printed = read("gst://rtspsrc location=rtsp://bob:Zq9Kx7@127.0.0.1:1/x user-pw=Zq9Kx7 ! decodebin")
    assert result["exit"] in (1, 6)
    assert "gst-launch-1.0" in result["error"] or "not open after" in result["error"]
    assert "Zq9" not in result["error"] + printed


@pytest.mark.skipif(shutil.which("gst-inspect-1.0") is None, reason="get it with: apt install gstreamer1.0-tools")
def test_a_csi_camera_without_jetpacks_elements_is_told_at_once() -> None:
    """Debian's OpenCV waits for ever for an element that is not installed."""
    result, _ = read("csi://0?size=1280x720&rate=60")
    assert result["exit"] == 3 and "GStreamer has no nvarguscamerasrc, nvvidconv here; JetPack has it" in result["error"]


def test_a_device_that_is_no_camera_is_missing() -> None:
    result, _ = read("v4l2:///dev/null")
    assert result["exit"] == 3
