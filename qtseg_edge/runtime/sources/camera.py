"""Cameras through OpenCV: USB and capture cards, CSI cameras of a Jetson, and any GStreamer pipeline."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import MissingError, QtsegError, SourceLostError
from qtseg_edge.runtime.frames import Frame, Source, SourceInfo
from qtseg_edge.runtime.sources.jetson_pipelines import NEWEST, TO_BGR, CsiCamera, UsbCamera, pipeline, require_elements, require_hardware
from qtseg_edge.runtime.sources.live import LIVE_TIME_BASE, LiveClock, SharedHandle, credible_rate
from qtseg_edge.runtime.sources.uri import ANY_MODE, CaptureMode

_MJPG = cv2.VideoWriter.fourcc(*"MJPG")
_FOURCCS = {"mjpeg": _MJPG, "yuyv": cv2.VideoWriter.fourcc(*"YUYV")}
_SLOW_FPS = 20


class Camera(Source):
    """Owns `capture`, which is open. name: fit to be shown. The iterator raises SourceLostError where the camera gives no more."""

    def __init__(self, capture: cv2.VideoCapture, name: str) -> None:
        self._capture, self._handle = capture, SharedHandle(capture.release)
        width, height = (round(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        rate = credible_rate(capture.get(cv2.CAP_PROP_FPS))
        size_hw = (height, width) if width > 0 and height > 0 else None
        self.info = SourceInfo(name, rate, LIVE_TIME_BASE, None, live=True, size_hw=size_hw)

    def __iter__(self) -> Iterator[Frame]:
        clock, index = LiveClock(), 0
        while True:
            with self._handle.in_use() as usable:
                if not usable:
                    return
                grabbed = self._capture.grab()
                captured_at = time.perf_counter()
                bgr = self._capture.retrieve()[1] if grabbed else None
            if bgr is None:
                raise SourceLostError(f"{self.info.name}: gives no more pictures")
            rgb = _rgb(bgr, self.info.name)
            decode_ms = (time.perf_counter() - captured_at) * 1e3
            yield Frame(rgb, index, clock.time_of(captured_at), self.info.name, decode_ms, captured_at)
            index += 1

    def close(self) -> None:
        self._handle.close()


def open_camera(device: str, name: str, mode: CaptureMode = ANY_MODE, hardware: bool = False) -> Camera:
    """device: an index or a path. hardware: a Jetson decodes its pictures. Raises MissingError where there is no such camera, or none that
    this user may use, or where it has not what `mode` asks for.
    """
    target = int(device) if device.isdecimal() else device
    path = f"/dev/video{target}" if isinstance(target, int) else device
    if sys.platform == "linux":
        _require_device(path, name)
    broken = MissingError(f"{name}: {path} gives no pictures, or another program has it; see who: fuser -v {path}")
    if hardware:
        text = pipeline(UsbCamera(path, mode), require_hardware(name))
        capture = gstreamer_capture(text, name)
    else:
        capture = cv2.VideoCapture(target, cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        _ask_for(capture, mode)
    camera = begun(capture, name, broken)
    try:
        _require_size(camera, mode, path)
    except BaseException:
        camera.close()
        raise
    return camera


def open_csi(number: int, name: str, mode: CaptureMode = ANY_MODE) -> Camera:
    """A camera on a Jetson's CSI port. Raises MissingError where OpenCV lacks GStreamer, GStreamer lacks JetPack's elements, or there is
    no such camera.
    """
    broken = MissingError(f"{name}: no CSI camera {number} gives pictures; check its cable, and try it with: nvgstcapture-1.0")
    text = pipeline(CsiCamera(number, mode), "orin")  # the same on every generation
    return begun(gstreamer_capture(text, name, must_know=False), name, broken)


def open_gst(text: str, name: str) -> Camera:
    """A pipeline as gst-launch-1.0 takes it. Raises MissingError (OpenCV lacks GStreamer), QtsegError (the pipeline does not run)."""
    broken = QtsegError(f"{name}: the pipeline does not run; try it with: gst-launch-1.0 PIPELINE ! fakesink")
    _require_gstreamer(name)
    return begun(cv2.VideoCapture(with_appsink(text), cv2.CAP_GSTREAMER), name, broken)


def with_appsink(text: str) -> str:
    """As it is where it has one; otherwise with BGR and one that keeps only the newest picture."""
    if "appsink" in text:
        return text
    return f"{text.rstrip().rstrip('!').rstrip()} ! {TO_BGR} ! {NEWEST}"


def gstreamer_capture(text: str, name: str, must_know: bool = True) -> cv2.VideoCapture:
    """Of a pipeline that `jetson_pipelines.pipeline` made. Raises MissingError where OpenCV or GStreamer lacks what it needs."""
    _require_gstreamer(name)
    require_elements(text, name, must_know)
    return cv2.VideoCapture(text, cv2.CAP_GSTREAMER)


def _require_gstreamer(name: str) -> None:
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise MissingError(
            f"{name}: this OpenCV {cv2.__version__} was built without GStreamer; on a Jetson use JetPack's own (pip uninstall "
            "opencv-python-headless in a venv made with --system-site-packages), on Debian or Ubuntu: apt install python3-opencv"
        )


def begun(capture: cv2.VideoCapture, name: str, broken: QtsegError) -> Camera:
    """The first picture is thrown away: many a device opens, and then gives none, or one that cannot be read."""
    try:
        picture = capture.read()[1] if capture.isOpened() else None
        if picture is None:
            raise broken
        _rgb(picture, name)
    except BaseException:
        capture.release()
        raise
    return Camera(capture, name)


def _require_device(path: str, name: str) -> None:
    if not os.path.exists(path):
        raise MissingError(f"{name}: there is no camera {path}; see which there are: v4l2-ctl --list-devices")
    if not os.access(path, os.R_OK | os.W_OK):
        raise MissingError(f"{name}: {path} is not open to you; join its group and log in again: sudo usermod -aG video $USER")


def _ask_for(capture: cv2.VideoCapture, mode: CaptureMode) -> None:
    """The form of the pixels first: it decides which sizes and rates there are."""
    if mode.pixels is not None:
        capture.set(cv2.CAP_PROP_FOURCC, _FOURCCS[mode.pixels])
    if mode.size_wh is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, mode.size_wh[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, mode.size_wh[1])
    if mode.rate is not None:
        capture.set(cv2.CAP_PROP_FPS, float(mode.rate))
    if mode.pixels is None:
        _prefer_speed(capture)


def _require_size(camera: Camera, mode: CaptureMode, path: str) -> None:
    """A driver takes the nearest size that it has, and says nothing."""
    if mode.size_wh is not None and camera.info.size_hw != mode.size_wh[::-1]:
        came = "x".join(str(side) for side in reversed(camera.info.size_hw or ()))
        wanted = "x".join(str(side) for side in mode.size_wh)
        raise MissingError(
            f"{camera.info.name}: wanted {wanted}, {path} gives {came}; see what it has: v4l2-ctl -d {path} --list-formats-ext"
        )


def _prefer_speed(capture: cv2.VideoCapture) -> None:
    """Over USB 2 a large raw picture comes a few times a second; compressed it comes at the camera's rate."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    if 0 < rate < _SLOW_FPS and round(capture.get(cv2.CAP_PROP_FOURCC)) != _MJPG:
        capture.set(cv2.CAP_PROP_FOURCC, _MJPG)


def _rgb(picture: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """From BGR. What else comes, OpenCV does not tell: one channel may be grey, NV12 or the bytes of a JPEG, four may be RGBA or BGRA."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        came = "x".join(str(side) for side in picture.shape)
        cure = "put in front of the pipeline's appsink: videoconvert ! video/x-raw,format=BGR"
        raise QtsegError(f"{name}: gives pictures of {came} {picture.dtype}, wanted BGR of 8 bits; {cure}")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]
