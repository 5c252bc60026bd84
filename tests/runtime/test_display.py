"""The window, for real: Debian's OpenCV with a GUI on a virtual screen, looked at by screenshot and driven by key presses."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import MissingError
from qtseg_edge.runtime.sinks import open_sink
from tests.runtime.stand_ins import info

ROOT = Path(__file__).parents[2]
DEBIAN_PYTHON = "/usr/bin/python3"
SCREEN_HW = (480, 800)
PATIENCE = 20.0  # seconds that a busy machine may take

# A green picture; NO SIGNAL while there is a file `starve`. Ends, saying so, where the user closes the view.
PROGRAM = """
import sys, time
from fractions import Fraction
from pathlib import Path
import numpy as np
from qtseg_edge.runtime.frames import Frame
from qtseg_edge.runtime.overlay import Overlay
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.segmenter import Segmentation
from qtseg_edge.runtime.sinks.base import ViewClosed
from qtseg_edge.runtime.sinks.display import Display

rgb = np.full((240, 320, 3), (20, 200, 40), np.uint8)
mask = np.zeros((240, 320), np.uint8)
overlay = Overlay(((0, 0, 0), (230, 90, 60)), 0.4)
sink = Display("clip.mp4")
assert sink.is_view and sink.needs_picture
try:
    for index in range(100_000):
        frame = Frame(rgb, index, Fraction(index, 25), "clip.mp4", 0.0, time.perf_counter())
        if Path(sys.argv[1]).exists():
            sink.starved()
        else:
            sink.write(Result(frame, Segmentation(mask, mask, 0.0, 0.0, 0.0), overlay, ("background", "polyp")))
        time.sleep(0.02)
except ViewClosed:
    sink.close()
    print("closed by the user", flush=True)
"""


class Desk:
    """A virtual screen with a window manager, and the program on it."""

    def __init__(self, folder: Path) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self.starve = folder / "starve"
        number = self._screen()
        self.environment = {**os.environ, "DISPLAY": f":{number}", "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(folder)}
        self._start(["openbox", "--sm-disable"])
        self.program = self._start([DEBIAN_PYTHON, "-W", "ignore", "-c", PROGRAM, str(self.starve)])

    def _screen(self) -> int:
        reading, writing = os.pipe()
        height, width = SCREEN_HW
        command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
        self._processes.append(subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL, text=True))
        os.close(writing)
        with os.fdopen(reading) as told:
            return int(told.readline())

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        self._processes.append(process)
        return process

    def screenshot(self) -> NDArray[np.uint8]:
        """RGB."""
        height, width = SCREEN_HW
        display = self.environment["DISPLAY"]
        grab = ["ffmpeg", "-v", "error", "-f", "x11grab", "-draw_mouse", "0", "-video_size", f"{width}x{height}", "-i", display]
        command = [*grab, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        raw = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
        return np.frombuffer(raw, np.uint8).reshape(height, width, 3)

    def green(self) -> float:
        """Share of the screen in the picture's colour."""
        return float(np.mean(np.abs(self.screenshot().astype(np.int16) - (20, 200, 40)).max(axis=2) < 20))

    def press(self, key: str) -> None:
        search = ["xdotool", "search", "--onlyvisible", "--name", "clip.mp4", "windowactivate", "--sync", "key", key]
        subprocess.run(search, env=self.environment, capture_output=True, timeout=60, check=True)

    def wait(self, until: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not until():
            if self.program.poll() is not None:
                pytest.fail(f"the program ended: {self.program.communicate()}")
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.1)

    def close(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.communicate(timeout=PATIENCE)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    missing = [tool for tool in ("Xvfb", "openbox", "xdotool", "ffmpeg") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; get them with: apt install xvfb openbox xdotool ffmpeg")
    if subprocess.run([DEBIAN_PYTHON, "-c", "import cv2"], capture_output=True, timeout=60).returncode:
        pytest.skip("no OpenCV with windows; get it with: apt install python3-opencv")
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def require_closed(desk: Desk) -> None:
    out, err = desk.program.communicate(timeout=PATIENCE)
    assert (desk.program.returncode, out) == (0, "closed by the user\n"), err


def test_a_window_shows_the_picture_and_no_old_one(desk: Desk) -> None:
    share = 240 * 320 / (SCREEN_HW[0] * SCREEN_HW[1])
    desk.wait(lambda: 0.8 * share < desk.green() < 1.2 * share)
    desk.starve.touch()
    desk.wait(lambda: desk.green() < 0.01)
    warning = np.abs(desk.screenshot().astype(np.int16) - (255, 200, 60)).max(axis=2) < 40
    assert np.count_nonzero(warning) > 200  # NO SIGNAL
    desk.starve.unlink()
    desk.wait(lambda: desk.green() > 0.8 * share)
    desk.press("q")
    require_closed(desk)


def test_full_screen_and_back(desk: Desk) -> None:
    share = 240 * 320 / (SCREEN_HW[0] * SCREEN_HW[1])
    desk.wait(lambda: desk.green() > 0.8 * share)
    desk.press("f")
    desk.wait(lambda: desk.green() > 0.7)  # 4:3 on a screen of 5:3
    green = np.abs(desk.screenshot().astype(np.int16) - (20, 200, 40)).max(axis=2) < 20
    _, _, width, height = cv2.boundingRect(green.astype(np.uint8))
    assert width / height == pytest.approx(4 / 3, rel=0.03)
    desk.press("F11")
    desk.wait(lambda: 0.8 * share < desk.green() < 1.2 * share)
    desk.press("Escape")
    require_closed(desk)


def test_closing_the_window_ends_the_run(desk: Desk) -> None:
    desk.wait(lambda: desk.green() > 0.1)
    desk.press("alt+F4")
    require_closed(desk)


def test_an_opencv_without_windows_is_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "\n  GUI:                           NONE\n    VTK support: NO\n")
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(MissingError, match=r"without windows; .*pip uninstall -y opencv-python-headless && pip install opencv-python"):
        open_sink("display://", info())


def test_no_screen_is_told_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "\n  GUI:                           QT5\n")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(MissingError, match=r"no screen \(DISPLAY is not set\); .*use web://"):
        open_sink("display://", info())
