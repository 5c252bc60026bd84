"""Cameras as far as they go without one: what is refused and why; and a stand-in for OpenCV's capture."""

from __future__ import annotations

import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import MissingError, QtsegError, SourceLostError
from qtseg_edge.runtime.sources import camera, open_source
from qtseg_edge.runtime.sources.camera import open_camera, open_csi, open_gst, with_appsink
from qtseg_edge.runtime.sources.uri import CaptureMode
from tests.media import require_forbidden

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="cameras are devices under /dev on Linux only")


class FakeCapture:
    """OpenCV's, which gives `pictures` and then none. None among them: the device is not open."""

    def __init__(self, *pictures: NDArray[Any] | None, properties: dict[int, float] | None = None) -> None:
        self.pictures, self.properties, self.released = list(pictures), properties or {}, 0

    def isOpened(self) -> bool:
        return None not in [None if picture is None else 0 for picture in self.pictures]

    def get(self, what: int) -> float:
        return self.properties.get(what, 0.0)

    def set(self, what: int, value: float) -> bool:
        self.properties[what] = value
        return True

    def grab(self) -> bool:
        return bool(self.pictures)

    def retrieve(self) -> tuple[bool, NDArray[Any] | None]:
        return (True, self.pictures.pop(0)) if self.pictures else (False, None)

    def read(self) -> tuple[bool, NDArray[Any] | None]:
        return self.retrieve()

    def release(self) -> None:
        self.released += 1


def bgr(blue: int) -> NDArray[np.uint8]:
    return np.full((48, 64, 3), (blue, 20, 30), np.uint8)


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> list[FakeCapture]:
    """What OpenCV opens, as if this machine had a camera and GStreamer."""
    captures: list[FakeCapture] = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: captures[0])
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: True)
    monkeypatch.setattr(camera, "_require_device", lambda *_: None)
    monkeypatch.setattr(camera, "require_elements", lambda *_: None)
    return captures


@LINUX
@pytest.mark.parametrize("text", ["99", "v4l2:///dev/video99", "v4l2:///dev/nowhere/video0"])
def test_a_camera_that_is_not_there_is_named_with_how_to_find_one(text: str) -> None:
    with pytest.raises(MissingError, match=r"there is no camera /dev/.*; see which there are: v4l2-ctl --list-devices") as raised:
        open_source(text)
    assert raised.value.exit_code == 3


@LINUX
def test_what_is_no_camera_gives_no_pictures() -> None:
    with pytest.raises(MissingError, match=r"/dev/null gives no pictures, or another program has it; see who: fuser -v /dev/null"):
        open_source("v4l2:///dev/null")


@LINUX
def test_a_camera_that_this_user_may_not_use_says_how_to_be_allowed(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch(mode=0o000)
    require_forbidden(device, 4)
    with pytest.raises(MissingError, match="usermod -aG video"):
        open_camera(str(device), "camera")


@LINUX
def test_a_device_in_a_folder_that_may_not_be_looked_into_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "dev"
    folder.mkdir(mode=0o000)
    require_forbidden(folder, 4)
    with pytest.raises(MissingError, match="there is no camera"):
        open_camera(str(folder / "video0"), "camera")


@pytest.mark.parametrize("text", ["csi://0", "gst://videotestsrc"])
def test_without_gstreamer_it_says_how_to_get_it(text: str) -> None:
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(MissingError, match=r"built without GStreamer; .*JetPack.*apt install python3-opencv") as raised:
        open_source(text)
    assert text in str(raised.value)


def test_a_pipeline_gets_a_sink_unless_it_has_one() -> None:
    assert with_appsink("v4l2src ! jpegdec ! ").startswith("v4l2src ! jpegdec ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true")
    assert with_appsink("v4l2src ! appsink") == "v4l2src ! appsink"


def test_pictures_are_rgb_and_the_end_is_the_loss_of_the_source(opens: list[FakeCapture]) -> None:
    sides = {cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0, cv2.CAP_PROP_FPS: 29.97}
    opens.append(FakeCapture(bgr(1), bgr(2), bgr(3), properties=sides))
    with open_camera("0", "camera 0") as source:
        assert source.info.live and source.info.size_hw == (48, 64)
        assert float(source.info.rate) == pytest.approx(29.97, abs=0.001)
        frames = iter(source)
        assert [next(frames).rgb[0, 0].tolist() for _ in range(2)] == [[30, 20, 2], [30, 20, 3]]  # the first one was the trial
        with pytest.raises(SourceLostError, match="camera 0: gives no more pictures"):
            next(frames)
    assert opens[0].released == 1
    assert opens[0].properties[cv2.CAP_PROP_BUFFERSIZE] == 1


@pytest.mark.parametrize(("rate", "is_compressed"), [(5.0, True), (30.0, False), (0.0, False)])
def test_a_camera_that_is_slow_with_raw_pictures_is_asked_for_compressed_ones(
    opens: list[FakeCapture], rate: float, is_compressed: bool
) -> None:
    opens.append(FakeCapture(bgr(1), properties={cv2.CAP_PROP_FPS: rate}))
    open_camera("0", "camera 0").close()
    assert (cv2.CAP_PROP_FOURCC in opens[0].properties) == is_compressed


def test_a_camera_is_asked_for_what_the_address_says_pixels_first(opens: list[FakeCapture]) -> None:
    opens.append(FakeCapture(bgr(1)))
    with open_camera("0", "camera 0", CaptureMode((64, 48), Fraction(30000, 1001), "mjpeg")) as source:
        assert source.info.size_hw == (48, 64)
    asked = {name: opens[0].properties[name] for name in list(opens[0].properties)[1:]}  # the first one is the buffer's size
    assert list(asked) == [cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS]
    assert asked[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG") and asked[cv2.CAP_PROP_FPS] == pytest.approx(29.97, abs=0.001)


@pytest.mark.parametrize(("generation", "element"), [("orin", "nvv4l2decoder mjpeg=1"), ("thor", "jpegdec")])
def test_a_cameras_jpegs_go_through_the_decoder_of_the_board(
    opens: list[FakeCapture], monkeypatch: pytest.MonkeyPatch, generation: str, element: str
) -> None:
    opened: list[tuple[object, ...]] = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda *arguments: opened.append(arguments) or opens[0])
    monkeypatch.setattr(camera, "require_hardware", lambda _: generation)
    opens.append(FakeCapture(bgr(1), properties={cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0}))
    open_camera("1", "camera 1", CaptureMode((64, 48)), hardware=True).close()
    ((text, api),) = opened
    assert api == cv2.CAP_GSTREAMER and f" ! image/jpeg,width=64,height=48 ! {element} ! " in str(text)
    assert str(text).startswith("v4l2src device=/dev/video1 ") and opens[0].released == 1


def test_a_camera_that_gives_another_size_than_asked_for_is_refused(opens: list[FakeCapture]) -> None:
    class Stubborn(FakeCapture):
        def set(self, what: int, value: float) -> bool:
            return False

    opens.append(Stubborn(bgr(1), properties={cv2.CAP_PROP_FRAME_WIDTH: 64.0, cv2.CAP_PROP_FRAME_HEIGHT: 48.0}))
    with pytest.raises(MissingError, match=r"wanted 1920x1080, /dev/video0 gives 64x48; see what it has: v4l2-ctl -d /dev/video0"):
        open_camera("0", "camera 0", CaptureMode((1920, 1080)))
    assert opens[0].released == 1


@pytest.mark.parametrize("pictures", [(), (None,)])
def test_what_opens_and_gives_nothing_is_missing(opens: list[FakeCapture], pictures: tuple[None, ...]) -> None:
    opens.append(FakeCapture(*pictures))
    with pytest.raises(MissingError, match="gives no pictures"):
        open_camera("0", "camera 0")
    with pytest.raises(MissingError, match="no CSI camera 2 gives pictures; check its cable"):
        open_csi(2, "csi://2")
    with pytest.raises(QtsegError, match=r"the pipeline does not run; try it with: gst-launch-1.0"):
        open_gst("fakesrc", "gst://fakesrc")
    assert opens[0].released == 3


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((72, 64), np.uint8),  # NV12
        np.zeros((48, 64, 4), np.uint8),  # RGBA or BGRA: who knows
        np.zeros((48, 64, 3), np.uint16),
        np.zeros((1, 9000), np.uint8),  # the bytes of a JPEG
        np.zeros((48, 64, 2), np.uint8),  # YUY2
    ],
)
def test_a_picture_that_is_not_bgr_is_refused_and_not_guessed(opens: list[FakeCapture], picture: NDArray[Any]) -> None:
    opens.append(FakeCapture(picture))
    with pytest.raises(QtsegError, match=r"wanted BGR of 8 bits; .*videoconvert ! video/x-raw,format=BGR"):
        open_gst("v4l2src ! appsink", "gst://x")
    assert opens[0].released == 1


def test_a_camera_is_freed_only_when_nobody_reads_from_it(opens: list[FakeCapture]) -> None:
    reading, go_on = threading.Event(), threading.Event()

    class Slow(FakeCapture):
        def grab(self) -> bool:
            reading.set()
            return go_on.wait(30) and super().grab()

    opens.append(Slow(bgr(1), *(bgr(2) for _ in range(9))))
    source = open_camera("0", "camera 0")
    taken: list[int] = []
    reader = threading.Thread(target=lambda: taken.extend(frame.index for frame in source))
    reader.start()
    assert reading.wait(30)
    source.close()  # does not wait
    assert opens[0].released == 0
    go_on.set()
    reader.join(30)
    assert opens[0].released == 1 and len(taken) <= 1
