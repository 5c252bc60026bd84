"""What a Jetson's cameras and decoder are asked with, as text, and through Debian's GStreamer with software in NVIDIA's place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qtseg_edge.errors import MissingError, QtsegError, SourceLostError, UsageError
from qtseg_edge.jetson.generation import Generation, generation_of
from qtseg_edge.runtime.sources import LiveOptions, hardware_video, open_source
from qtseg_edge.runtime.sources.jetson_pipelines import (
    CsiCamera,
    RtspStream,
    UsbCamera,
    VideoFile,
    elements_of,
    pipeline,
    require_elements,
)
from qtseg_edge.runtime.sources.uri import CaptureMode
from tests.media import cornered_frame, corners_of, cut_off, numbered_frames, times_of, write_video
from tests.runtime.sources.jetson_twin import twin
from tests.servers import RtspServer, require_rtsp_server

_PYTHON = "/usr/bin/python3"
_SCRIPT = str(Path(__file__).with_name("jetson_twin.py"))
_BGR = "videoconvert ! video/x-raw,format=BGR ! appsink"
_NEWEST = f"{_BGR} drop=true max-buffers=1 sync=false"
_FROM_NVMM = f"nvvidconv ! video/x-raw,format=BGRx ! {_BGR}"
_MODE = CaptureMode((1280, 720), Fraction(30000, 1001))


@pytest.mark.parametrize("generation", ["orin", "thor"])
def test_the_pipelines_of_every_generation(generation: Generation) -> None:
    newest = f"{_FROM_NVMM} drop=true max-buffers=1 sync=false"
    assert pipeline(CsiCamera(1), generation) == f"nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM) ! {newest}"
    caps = "width=1280,height=720,framerate=30000/1001"
    assert pipeline(CsiCamera(0, _MODE), generation).split(" ! ")[1] == f"video/x-raw(memory:NVMM),{caps}"
    raw = CaptureMode((1280, 720), Fraction(30000, 1001), "yuyv")
    expected = f"v4l2src device=/dev/video0 io-mode=2 ! video/x-raw,format=YUY2,{caps} ! {_NEWEST}"
    assert pipeline(UsbCamera("/dev/video0", raw), generation) == expected
    assert pipeline(RtspStream("rtsp://cam/live", "h264"), generation) == (
        "rtspsrc location=rtsp://cam/live protocols=tcp latency=100 drop-on-latency=true ! application/x-rtp,media=video"
        " ! rtph264depay wait-for-keyframe=true ! video/x-h264,stream-format=byte-stream,alignment=au"
        f" ! h264parse ! nvv4l2decoder enable-max-performance=1 ! {newest}"
    )
    assert " ! rtph265depay ! video/x-h265," in pipeline(RtspStream("rtsp://cam/live", "h265"), generation)
    assert pipeline(VideoFile(Path("/v/a.mkv"), "mkv", "h265"), generation) == (
        f"filesrc location=/v/a.mkv ! matroskademux ! h265parse ! nvv4l2decoder enable-max-performance=1 ! {_FROM_NVMM}"
        " drop=false max-buffers=2 sync=false"
    )


def test_on_thor_no_mjpeg_reaches_the_hardware_decoder() -> None:
    texts: dict[Generation, str] = {"orin": f"nvv4l2decoder mjpeg=1 ! {_FROM_NVMM}", "thor": f"jpegdec ! {_BGR}"}
    for generation, decoding in texts.items():
        text = pipeline(UsbCamera("/dev/video2"), generation)
        assert text == f"v4l2src device=/dev/video2 io-mode=2 ! image/jpeg ! {decoding} drop=true max-buffers=1 sync=false"


def test_lost_packets_of_h265_cannot_be_told_so_udp_is_refused() -> None:
    with pytest.raises(UsageError, match="--rtsp-transport tcp"):
        pipeline(RtspStream("rtsp://cam/live", "h265", "udp"), "orin")


@pytest.mark.parametrize(
    ("compatible", "generation"),
    [
        ("nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0", "orin"),
        ("nvidia,p4071-0000+p3834-0008\0nvidia,tegra264\0", "thor"),
        ("nvidia,p3668\0nvidia,tegra194\0", None),
        ("raspberrypi,5-model-b\0brcm,bcm2712\0", None),
        (None, None),
    ],
)
def test_the_generation_is_the_chips(tmp_path: Path, compatible: str | None, generation: Generation | None) -> None:
    if compatible is not None:
        (tmp_path / "proc" / "device-tree").mkdir(parents=True)
        (tmp_path / "proc" / "device-tree" / "compatible").write_bytes(compatible.encode())
    assert generation_of(tmp_path) == generation


def test_an_element_that_is_missing_is_named_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gst-inspect-1.0"
    program.write_text('#!/bin/sh\ncase "$2" in nvvidconv|h264parse) exit 1;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(MissingError, match=r"csi://0: GStreamer has no nvvidconv here; JetPack has it .*--runtime nvidia"):
        require_elements(pipeline(CsiCamera(0), "orin"), "csi://0")
    with pytest.raises(MissingError, match=r"no h264parse here; sudo apt install gstreamer1.0-plugins-good gstreamer1.0-plugins-bad"):
        require_elements("filesrc ! h264parse", "x")
    require_elements("filesrc ! qtdemux", "x")
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="sudo apt install gstreamer1.0-tools"):
        require_elements("filesrc", "x")
    require_elements("filesrc", "x", must_know=False)


def test_where_there_is_no_jetson_hardware_is_a_missing_device(tmp_path: Path) -> None:
    if generation_of() is not None:
        pytest.skip("this is a Jetson")
    clip = write_video(tmp_path / "clip.mp4", numbered_frames(3))
    for address in (str(clip), "v4l2:///dev/null", "rtsp://127.0.0.1:1/x"):
        with pytest.raises(MissingError, match="--decoder hardware is a Jetson's .*leave it out") as raised:
            open_source(address, LiveOptions(decoder="hardware"))
        assert raised.value.exit_code == 3
    with pytest.raises(UsageError, match="--decoder hardware reads rtsp://, files and cameras"):
        open_source("http://127.0.0.1:1/x", LiveOptions(decoder="hardware"))


PATHS = st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=12), min_size=1, max_size=3).map("/".join)
FILE_ELEMENTS = ["filesrc", "qtdemux", "h264parse", "nvv4l2decoder", "nvvidconv", "videoconvert", "appsink"]


@given(PATHS)
def test_no_path_adds_an_element(path: str) -> None:
    try:
        text = pipeline(VideoFile(Path("/") / path, "mp4", "h264"), "orin")
    except QtsegError:
        assert not str(Path("/") / path).isprintable()
        return
    assert elements_of(text) == FILE_ELEMENTS


# What follows asks GStreamer itself.

Parser = Callable[[str], dict[str, Any]]


def _runs(code: str) -> bool:
    return Path(_PYTHON).exists() and subprocess.run([_PYTHON, "-c", code], capture_output=True, timeout=60).returncode == 0


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    if not _runs("import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst"):
        pytest.skip("no GStreamer for Python; get it with: apt install python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-bad")
    process = subprocess.Popen([_PYTHON, _SCRIPT, "--locations"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def parse(text: str) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        print(json.dumps(text), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())  # type: ignore[no-any-return]

    with process:
        yield parse
        process.kill()


@settings(max_examples=50)
@given(path=PATHS)
def test_gstreamer_reads_every_path_as_it_is(parser: Parser, path: str) -> None:
    wanted = str(Path("/") / path)
    assume(wanted.isprintable())
    parsed = parser(twin(pipeline(VideoFile(Path(wanted), "mp4", "h264"), "orin")))
    assert parsed["location"] == wanted
    assert parsed["elements"][:3] == ["filesrc", "qtdemux", "h264parse"]


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/?#"), max_size=10)


@settings(max_examples=50)
@given(user=TEXTS, password=TEXTS, path=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12))
def test_gstreamer_reads_every_address_as_one_address(parser: Parser, user: str, password: str, path: str) -> None:
    parsed = parser(twin(pipeline(RtspStream(f"rtsp://{user}:{password}@10.0.0.5:554/{path}", "h264"), "orin")))
    scheme, _, rest = parsed["location"].partition("://")
    assert scheme == "rtsp" and rest.count("@10.0.0.5:554/") >= 1 and rest.isascii() and " " not in rest
    assert rest.partition("@")[2].startswith("10.0.0.5:554/"), "the first @ ends the password"
    plain = twin(pipeline(RtspStream("rtsp://h/x", "h264"), "orin"))
    assert [name for name in parsed["elements"] if name != "capsfilter"] == elements_of(plain)


@pytest.mark.parametrize("generation", ["orin", "thor"])
@pytest.mark.parametrize(
    "wanted",
    [
        CsiCamera(0, _MODE),
        UsbCamera("/dev/video0", _MODE),
        UsbCamera("/dev/video0", CaptureMode((640, 480), Fraction(30), "yuyv")),
        RtspStream("rtsp://bob:a!b@h/x y", "h264"),
        RtspStream("rtsp://h/x", "h264", "udp"),
        RtspStream("rtsp://h/x", "h265"),
        VideoFile(Path("/a b ! fakesink"), "mp4", "h264"),
        VideoFile(Path("/a"), "mkv", "h265"),
    ],
)
def test_gstreamer_parses_every_pipeline(parser: Parser, wanted: Any, generation: Generation) -> None:
    text = twin(pipeline(wanted, generation))
    known = parser(text)["elements"]
    assert [name for name in known if name != "capsfilter"] == elements_of(text)


# What follows decodes through an OpenCV that has GStreamer.


def read(address: str | Path, frames: int = 10**6, transport: str = "tcp", spoilt: str = "") -> dict[str, Any]:
    site_packages = sysconfig.get_paths()["platlib"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OPENCV_LOG_LEVEL": "SILENT", "TWIN_SPOILT": spoilt}
    command = [_PYTHON, _SCRIPT, site_packages, str(address), transport, str(frames)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, cwd="/")
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    result["printed"] = done.stderr
    return result


@pytest.fixture(scope="module")
def decodes() -> None:
    code = "import cv2, sys; assert cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)"
    code += f"; assert sys.version_info[:2] == {sys.version_info[:2]}"
    code += "; import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; Gst.init(None)"
    code += "; assert Gst.ElementFactory.find('openh264dec')"
    if not _runs(code):
        pytest.skip("no OpenCV with GStreamer for this Python; get it with: apt install python3-opencv gstreamer1.0-plugins-bad")


@pytest.mark.usefixtures("decodes")
@pytest.mark.parametrize("name", ["clip.mp4", 'it\'s "one" ! fakesink.mkv'])
def test_a_file_gives_every_picture_with_its_own_time_upright(tmp_path: Path, name: str) -> None:
    times = [0, 1, 2, 4, 5, 9, 10, 11, 12, 20, 21, 22]
    options = {"bf": "2", "g": "5"}
    # Turned by a quarter, as phones do.
    rotation = 90 if name.endswith("mp4") else None
    path = write_video(
        tmp_path / name,
        [cornered_frame((96, 160)) for _ in times],
        times=times,
        rotation=rotation,
        sound=True,
        options=options,
        pixel_aspect=Fraction(4, 3),
    )
    result = read(path)
    assert "error" not in result, result
    assert [Fraction(time) for time, _, _ in result["frames"]] == times_of(path)
    with open_source(str(path)) as source:
        expected = list(source)
        assert result["info"][:2] == [str(source.info.rate), source.info.frames] and result["info"][3] == "4/3"
    assert corners_of(expected[0].rgb)
    for (_, shape, corner), frame in zip(result["frames"], expected, strict=True):
        assert shape == list(frame.rgb.shape)
        assert np.abs(np.array(corner) - frame.rgb[:8, :8].reshape(-1, 3).mean(axis=0)).max() < 12


@pytest.mark.usefixtures("decodes")
@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        ("videorate drop-only=true max-rate=5", "fewer pictures than the file has"),
        ("videorate ! video/x-raw,framerate=100/1", "more pictures than the file has"),
        ("videoconvert ! video/x-raw,format=RGB ! capssetter caps=video/x-raw,format=BGR", "first picture is off by"),
        ("videoscale ! video/x-raw,width=32,height=32", "another size"),
        ("fakesink fakesrc num-buffers=0", "fewer pictures than the file has"),
    ],
)
def test_a_decoder_that_does_wrong_is_found_out(tmp_path: Path, spoilt: str, why: str) -> None:
    red = np.full((96, 160, 3), (200, 40, 40), np.uint8)
    path = write_video(tmp_path / "clip.mp4", [red] * 30)
    result = read(path, spoilt=f" ! appsink=> ! {spoilt} ! appsink")
    assert why in result["error"] and "leave out --decoder hardware" in result["error"]
    assert result["exit"] in (1, 6)


def test_a_decoder_that_hangs_is_an_error_and_closing_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, go_on, released = numbered_frames(9), threading.Event(), threading.Event()

    class Capture:
        given = 0

        def read(self) -> tuple[bool, Any]:
            self.given += 1
            if self.given > 2:
                go_on.wait(30)
                return False, None
            return True, np.ascontiguousarray(frames[self.given - 1][..., ::-1])

        def release(self) -> None:
            released.set()

    monkeypatch.setattr(hardware_video, "require_hardware", lambda _: "orin")
    monkeypatch.setattr(hardware_video, "gstreamer_capture", lambda *_: Capture())
    monkeypatch.setattr(hardware_video, "_SILENCE_S", 0.3)
    source = open_source(str(write_video(tmp_path / "clip.mp4", frames)), LiveOptions(decoder="hardware"))
    seen = []
    with pytest.raises(SourceLostError, match=r"broke after frame 1 .*the hardware gives no picture for 0.3 s"):
        seen.extend(frame.index for frame in source)
    started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 5 and seen == [0, 1] and not released.is_set()
    go_on.set()
    assert released.wait(30)


@pytest.mark.usefixtures("decodes")
def test_a_file_that_was_cut_off_is_no_clean_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", numbered_frames(100), container={"movflags": "+faststart"})
    result = read(cut_off(path, 0.5))
    assert result["exit"] in (1, 6), result


def test_what_the_hardware_does_not_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware_video, "require_hardware", lambda _: "orin")
    for path in (
        write_video(tmp_path / "clip.avi", numbered_frames(5)),
        write_video(tmp_path / "part2.mp4", numbered_frames(5), codec="mpeg4"),
        write_video(tmp_path / "444.mp4", numbered_frames(5), pix_fmt="yuv444p"),
    ):
        with pytest.raises(UsageError, match="this has 1 of .*; leave out --decoder hardware"):
            open_source(str(path), LiveOptions(decoder="hardware"))


@pytest.mark.usefixtures("decodes")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_stream_is_decoded_and_its_password_shown_nowhere(transport: str) -> None:
    require_rtsp_server()
    with RtspServer(0, "bob", 'Zq9"K@x7!') as server:
        result = read(f'rtsp://bob:Zq9"K@x7!@{server.address}', frames=10, transport=transport)
    assert len(result["frames"]) == 10, result
    assert result["frames"][0][1] == [120, 160, 3]
    assert result["info"][2] == f"rtsp://***@{server.address}" and result["info"][0] == "25"
    assert "Zq9" not in result["printed"] and f"protocols={transport}" in result["pipelines"][0]
