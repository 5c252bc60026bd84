"""`display://`: a window with the newest picture."""

from __future__ import annotations

import os
import re
from contextlib import suppress

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import MissingError, QtsegError
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink, ViewClosed
from qtseg_edge.runtime.sinks.card import NoSignalCard
from qtseg_edge.spec import NOTICE

_F11 = 0xFFC8  # as GTK and Qt tell it
_FULL_SCREEN_KEYS, _END_KEYS = {ord("f"), ord("F"), _F11}, {ord("q"), ord("Q"), 27}
_KEY_BITS = 0xFFFF  # above them GTK and Qt tell which modifiers are held


class Display(Sink):
    """f or F11: full screen and back. q, Esc or closing the window ends the run. The window belongs to the thread that writes."""

    name = "display://"
    needs_picture = True
    is_view = True

    def __init__(self, title: str) -> None:
        """title: of the window. Raises MissingError where there is no screen, or an OpenCV without windows."""
        if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
            raise MissingError(
                "display://: this OpenCV is built without windows; get one that has them: "
                "pip uninstall -y opencv-python-headless && pip install opencv-python (or apt install python3-opencv)"
            )
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise MissingError("display://: no screen (DISPLAY is not set); log in at one, or use web://127.0.0.1:8080")
        self._title = f"{title} | {NOTICE}"
        self._card = NoSignalCard()
        self._is_open = False

    def write(self, result: Result) -> None:
        self._card.seen(result)
        self._show(result.picture)

    def starved(self) -> None:
        card = self._card.picture()
        if card is not None:
            self._show(card)

    def close(self) -> None:
        if self._is_open:
            with suppress(cv2.error):  # the screen is gone
                cv2.destroyWindow(self._title)

    abandon = close

    def _show(self, picture: NDArray[np.uint8]) -> None:
        try:
            if not self._is_open:
                cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
                cv2.resizeWindow(self._title, picture.shape[1], picture.shape[0])
                self._is_open = True
            elif self._is_closed_by_user():
                self._is_open = False
                raise ViewClosed(self.name)
            cv2.imshow(self._title, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            self._obey(cv2.waitKeyEx(1))
        except cv2.error as error:
            raise QtsegError(f"display://: the window does not work ({error.err}); use web://127.0.0.1:8080") from error

    def _is_closed_by_user(self) -> bool:
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # Qt takes everything down with its last window
            return True

    def _obey(self, key: int) -> None:
        key &= _KEY_BITS
        if key in _END_KEYS:
            raise ViewClosed(self.name)
        if key in _FULL_SCREEN_KEYS:
            is_full = cv2.getWindowProperty(self._title, cv2.WND_PROP_FULLSCREEN) == cv2.WINDOW_FULLSCREEN
            cv2.setWindowProperty(self._title, cv2.WND_PROP_FULLSCREEN, cv2.WINDOW_NORMAL if is_full else cv2.WINDOW_FULLSCREEN)
