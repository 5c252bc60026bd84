"""A Jetson's pipelines on a machine without one: each of NVIDIA's elements is replaced by the software that does the same.

Run by Debian's Python, whose OpenCV has GStreamer, with the folder of a PyAV of the same Python version:
`jetson_twin.py SITE_PACKAGES SOURCE TRANSPORT FRAMES` reads a source through `--decoder hardware` and prints what came, as JSON.
`jetson_twin.py --locations` reads pipelines from its input, one JSON string in each line, and prints what GStreamer's parser makes of
each: the names of its elements, and the location of the first.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_TWINS = (
    (r"nvarguscamerasrc sensor-id=0", "videotestsrc is-live=true"),
    ("(memory:NVMM)", ""),
    ("nvv4l2decoder mjpeg=1", "jpegdec"),
    ("h264parse ! nvv4l2decoder enable-max-performance=1", "h264parse ! openh264dec"),
    ("h265parse ! nvv4l2decoder enable-max-performance=1", "h265parse ! libde265dec"),
    ("nvvidconv", "videoconvert"),
)


def twin(text: str) -> str:
    for nvidias, software in _TWINS:
        text = text.replace(nvidias, software)
    assert not any(part.startswith("nv") for part in text.split(" ! ")), text
    return text


def parse_all() -> None:
    import gi

    gi.require_version("Gst", "1.0")
    from gi.repository import Gst

    Gst.init(None)
    for line in sys.stdin:
        pipeline = Gst.parse_launch(json.loads(line))
        elements = []
        iterator = pipeline.iterate_sorted()
        while (step := iterator.next())[0] == Gst.IteratorResult.OK:
            elements.insert(0, step[1])
        first = elements[0]
        location = next((first.get_property(name) for name in ("location", "device") if first.find_property(name)), None)
        print(json.dumps({"elements": [element.get_factory().get_name() for element in elements], "location": location}), flush=True)


def read(site_packages: str, address: str, transport: str, frames: str) -> None:
    sys.path.append(site_packages)  # behind Debian's: its OpenCV is the one
    import cv2

    from qtseg_edge.errors import QtsegError
    from qtseg_edge.runtime.sources import LiveOptions, hardware_stream, hardware_video, jetson_pipelines, open_source

    opened, capture = [], cv2.VideoCapture
    spoilt = os.environ.get("TWIN_SPOILT", "")  # `for=to`, to make a decoder that does wrong

    def twins_capture(text: str, api: int) -> cv2.VideoCapture:
        opened.append(text)
        before, _, after = spoilt.partition("=>")
        return capture(twin(text).replace(before, after) if spoilt else twin(text), api)

    cv2.VideoCapture = twins_capture  # type: ignore[assignment,misc]
    jetson_pipelines._exists = lambda *_: True
    for module in (hardware_stream, hardware_video):
        module.require_hardware = lambda _: "orin"  # type: ignore[attr-defined]
    result: dict[str, object] = {}
    try:
        options = LiveOptions(stall_timeout_s=10.0, restarts=0, rtsp_transport=transport, decoder="hardware")  # type: ignore[arg-type]
        with open_source(address, options) as source:
            result["info"] = [str(source.info.rate), source.info.frames, source.info.name, str(source.info.pixel_aspect)]
            seen = result["frames"] = []
            for frame in source:
                if frame.has_signal:
                    corner = frame.rgb[:8, :8].reshape(-1, 3).mean(axis=0)
                    seen.append([str(frame.time), list(frame.rgb.shape), [round(float(value)) for value in corner]])
                if len(seen) == int(frames):
                    break
    except QtsegError as error:
        result["error"], result["exit"] = str(error), error.exit_code
    result["pipelines"] = opened
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[3]))
    parse_all() if sys.argv[1] == "--locations" else read(*sys.argv[1:])
