"""What the project records plays where people look at it: in a browser."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("av", reason="video needs PyAV; get it with: pip install 'qtseg-edge[cpu]'")

from qtseg_edge.runtime.sinks.video_writer import VideoFile
from tests.media import numbered_frames
from tests.runtime.stand_ins import info, result_of
from tests.runtime.web.site import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_STATE = """() => { const v = document.querySelector("video");
  return {at: v.currentTime, width: v.videoWidth, height: v.videoHeight, error: v.error && v.error.message, ended: v.ended}; }"""


def played(browser: Browser, video: Path) -> dict[str, Any]:
    """Its state when it has been played to its end."""
    page_file = video.with_suffix(".html")
    page_file.write_text(f'<!doctype html><video src="{video.name}" muted autoplay></video>')
    page = browser.new_page()
    try:
        page.goto(page_file.as_uri())
        page.evaluate("() => { document.querySelector('video').playbackRate = 4; }")
        if not page.evaluate("""() => document.createElement("video").canPlayType('video/mp4; codecs="avc1.64001f"')"""):
            pytest.skip("this Chromium has no H.264; get Debian's: apt install chromium")
        deadline = time.monotonic() + PATIENCE
        while True:
            state: dict[str, Any] = page.evaluate(_STATE)
            if state["ended"] or state["error"] or time.monotonic() > deadline:
                return state
            page.wait_for_timeout(50)
    finally:
        page.close()


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_recording_plays_in_a_browser(browser: Browser, tmp_path: Path, suffix: str) -> None:
    video = tmp_path / f"out{suffix}"
    sink = VideoFile(video, info())
    for index, rgb in enumerate(numbered_frames(25, (96, 160))):
        sink.write(result_of(rgb, index=index))
    sink.close()
    state = played(browser, video)
    assert (state["error"], state["ended"], state["width"], state["height"]) == (None, True, 160, 96)
    assert state["at"] == pytest.approx(1.0, abs=0.1)


def test_what_an_interrupted_recording_leaves_plays_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    video = tmp_path / "out.mp4"
    sink = VideoFile(video, info())
    for index, rgb in enumerate(numbered_frames(200, (96, 160))):
        sink.write(result_of(rgb, index=index))
    left = tmp_path / "copy.mp4"
    left.write_bytes((tmp_path / "out.recording.mp4").read_bytes())  # what is on the disk when the process is killed here
    sink.close()
    state = played(browser, left)
    assert (state["error"], state["ended"], state["width"], state["height"]) == (None, True, 160, 96)
    assert 1.0 < state["at"] <= 8.0
