"""What a Jetson's cameras and its hardware decoder are asked with: GStreamer pipelines, by the generation of the board.

Elements: "Accelerated GStreamer" in NVIDIA's Jetson Linux Developer Guide. What differs by generation: nvv4l2decoder decodes no MJPEG on
Thor ("00_video_decode", Jetson Linux API Reference 38.2; "Gst-nvvideo4linux2", DeepStream documentation).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

from qtseg_edge.errors import MissingError, QtsegError, UsageError
from qtseg_edge.jetson.generation import Generation, generation_of
from qtseg_edge.runtime.sources.uri import ANY_MODE, CaptureMode

Codec = Literal["h264", "h265"]
_DEMUXERS = {"mp4": "qtdemux", "mkv": "matroskademux"}
TO_BGR = "videoconvert ! video/x-raw,format=BGR"
_FROM_NVMM = f"nvvidconv ! video/x-raw,format=BGRx ! {TO_BGR}"
_DECODER = "nvv4l2decoder enable-max-performance=1"
NEWEST = "appsink drop=true max-buffers=1 sync=false"
_EVERY = "appsink drop=false max-buffers=2 sync=false"
_LATENCY_MS = 100  # that packets are waited for; rtspsrc's own is 2000
_PLAIN = re.compile("[A-Za-z0-9_./:%-]")
_INSPECT = "gst-inspect-1.0"
_INSPECT_SECONDS = 60.0  # the first time after an installation it looks at every plugin


@dataclass(frozen=True)
class CsiCamera:
    """number: of the sensor. Its picture comes from the image processor, so nothing is decoded."""

    number: int
    mode: CaptureMode = ANY_MODE


@dataclass(frozen=True)
class UsbCamera:
    """device: its path. mode.pixels: compressed where it says nothing."""

    device: str
    mode: CaptureMode = ANY_MODE


@dataclass(frozen=True)
class RtspStream:
    """url: whole, with its credentials."""

    url: str
    codec: Codec
    transport: Literal["tcp", "udp"] = "tcp"


@dataclass(frozen=True)
class VideoFile:
    path: Path
    container: Literal["mp4", "mkv"]
    codec: Codec


def pipeline(wanted: CsiCamera | UsbCamera | RtspStream | VideoFile, generation: Generation) -> str:
    """As OpenCV and gst-launch-1.0 take it; its appsink gives BGR, of a file every picture, of the others the newest one.

    Nothing in a path or an address can add an element to it. Raises UsageError (hardware does not do this), QtsegError (a path that no
    pipeline can hold).
    """
    if isinstance(wanted, CsiCamera):
        return f"nvarguscamerasrc sensor-id={wanted.number} ! {_caps('video/x-raw(memory:NVMM)', wanted.mode)} ! {_FROM_NVMM} ! {NEWEST}"
    if isinstance(wanted, UsbCamera):
        return f"v4l2src device={_escaped(wanted.device)} io-mode=2 ! {_usb_picture(wanted.mode, generation)} ! {NEWEST}"
    if isinstance(wanted, RtspStream):
        return f"{_rtsp_source(wanted)} ! {wanted.codec}parse ! {_DECODER} ! {_FROM_NVMM} ! {NEWEST}"
    source = f"filesrc location={_escaped(str(wanted.path.absolute()))} ! {_DEMUXERS[wanted.container]}"
    return f"{source} ! {wanted.codec}parse ! {_DECODER} ! {_FROM_NVMM} ! {_EVERY}"


def require_hardware(name: str, root: Path = Path("/")) -> Generation:
    """Raises MissingError where this machine has no decoder that pipelines are known for. name: of the source, fit to be shown."""
    generation = generation_of(root)
    if generation is None:
        raise MissingError(f"{name}: --decoder hardware is a Jetson's (Orin or Thor), and this is none; leave it out")
    return generation


def require_elements(text: str, name: str, must_know: bool = True) -> None:
    """Raises MissingError where GStreamer lacks an element of the pipeline `text`: some versions of OpenCV wait for it for ever.

    must_know: it is an error too where nobody can tell, because gst-inspect-1.0 is not installed.
    """
    program = shutil.which(_INSPECT)
    if program is None:
        if must_know:
            raise MissingError(
                f"{name}: what GStreamer can do here is asked of {_INSPECT}; get it with: sudo apt install gstreamer1.0-tools"
            )
        return
    missing = [element for element in elements_of(text) if not _exists(program, element)]
    if not missing:
        return
    cure = "sudo apt install gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"
    if any(element.startswith("nv") for element in missing):
        cure = "JetPack has it (sudo apt install nvidia-l4t-gstreamer); a container is started with: docker run --runtime nvidia"
    raise MissingError(f"{name}: GStreamer has no {', '.join(missing)} here; {cure}")


def elements_of(text: str) -> list[str]:
    """The names of the elements of a pipeline that `pipeline` made, without the caps between them."""
    return [first for part in text.split(" ! ") if "/" not in (first := part.split(" ", 1)[0])]


def _exists(program: str, element: str) -> bool:
    try:
        done = subprocess.run([program, "--exists", element], capture_output=True, timeout=_INSPECT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _usb_picture(mode: CaptureMode, generation: Generation) -> str:
    if mode.pixels == "yuyv":  # nothing to decode
        return f"{_caps('video/x-raw,format=YUY2', mode)} ! {TO_BGR}"
    compressed = _caps("image/jpeg", mode)
    if generation == "thor":
        return f"{compressed} ! jpegdec ! {TO_BGR}"
    return f"{compressed} ! nvv4l2decoder mjpeg=1 ! {_FROM_NVMM}"


def _rtsp_source(wanted: RtspStream) -> str:
    """After a lost packet rtph264depay waits for the next key frame, and rtph265depay hands on what is left."""
    if wanted.transport == "udp" and wanted.codec != "h264":
        raise UsageError("--decoder hardware: of H.265 over UDP it cannot be told what is lost; take --rtsp-transport tcp, or leave it out")
    depayload = "rtph264depay wait-for-keyframe=true" if wanted.codec == "h264" else "rtph265depay"
    return (
        f"rtspsrc location={_escaped(_encoded(wanted.url))} protocols={wanted.transport} latency={_LATENCY_MS} drop-on-latency=true"
        f" ! application/x-rtp,media=video ! {depayload} ! video/x-{wanted.codec},stream-format=byte-stream,alignment=au"
    )


def _caps(kind: str, mode: CaptureMode) -> str:
    parts = [kind]
    if mode.size_wh is not None:
        parts += [f"width={mode.size_wh[0]}", f"height={mode.size_wh[1]}"]
    if mode.rate is not None:
        parts.append(f"framerate={mode.rate.numerator}/{mode.rate.denominator}")
    return ",".join(parts)


def _encoded(url: str) -> str:
    """User and password end at the last @ before the path, as FFmpeg has it; GStreamer takes the first, so theirs are encoded."""
    scheme, _, rest = url.partition("://")
    authority, path = re.fullmatch(r"([^/?#]*)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    login, found, host = authority.rpartition("@")
    user, colon, password = login.partition(":")
    shown = f"{quote(unquote(user), safe='')}{colon}{quote(unquote(password), safe='')}" if found else ""
    return f"{scheme}://{shown}{found}{quote(host, safe=':[]%')}{quote(path, safe='/?#[]@!$&()*+,;=:%~')}"


def _escaped(value: str) -> str:
    """A property's value for GStreamer's parser: a backslash before everything that could mean something to it."""
    if not value.isprintable():
        raise QtsegError(f"{value!r}: holds what cannot be told to GStreamer; rename it, or leave out --decoder hardware")
    return re.sub(r"[\x00-\x7f]", lambda found: found[0] if _PLAIN.match(found[0]) else f"\\{found[0]}", value)
