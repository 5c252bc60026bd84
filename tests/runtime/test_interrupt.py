"""Ctrl-C and SIGTERM on the real command: what was segmented until then is a whole, playable file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.media import decoded, number_of, numbered_frame, write_video

ROOT = Path(__file__).parents[2]
FRAMES = 4000
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About ten seconds of work; reading it out of a generator keeps it out of memory."""
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", (numbered_frame(n) for n in range(FRAMES)))


def started(video: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "qtseg_edge.cli", "run", "--video", str(video), "--device", "fake", *options]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job would ignore it
    )


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def interrupted(video: Path, folder: Path, number: signal.Signals, times: int = 1) -> tuple[int, str, str]:
    """Interrupt a run once its files grow."""
    process = started(video, folder, "-o", "a.mp4", "-o", "a.jsonl", "-o", "masks/", "--json")
    try:
        wait_until(lambda: len(list(folder.glob("masks/*"))) > 100 and (folder / "a.recording.mp4").exists(), process)
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.005)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 3)], ids=["ctrl-c", "sigterm", "impatient"]
)
def test_an_interrupted_run_leaves_whole_files_of_all_frames_until_then(
    long_video: Path, tmp_path: Path, number: signal.Signals, times: int
) -> None:
    code, out, err = interrupted(long_video, tmp_path, number, times)
    assert code == 130, err
    assert err.splitlines()[-1] == "qtseg-edge: interrupted; the outputs hold every frame up to here"
    assert "Traceback" not in err
    report = json.loads(out)
    assert report["interrupted"] is True
    assert report["error"] is None
    assert 100 < report["frames"] < FRAMES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.mp4", "masks"]
    pictures = decoded(tmp_path / "a.mp4")
    assert len(pictures) == report["frames"]
    assert [number_of(picture) for picture in pictures[:100]] == list(range(100))
    assert len((tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()) == report["frames"]
    assert len(list((tmp_path / "masks").iterdir())) == report["frames"]
