"""Recordings that survive: a clean end, a full disk, a process that is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.sinks.recording import Recording
from qtseg_edge.runtime.sinks.video_writer import VideoFile
from tests.disks import small_disk
from tests.media import decoded, number_of, numbered_frame
from tests.runtime.stand_ins import info, result_of

ROOT = Path(__file__).parents[2]
SUFFIXES = [".mp4", ".mov", ".mkv"]


def noisy(index: int, size_hw: tuple[int, int] = (128, 192)) -> NDArray[np.uint8]:
    """Its number in the top row, noise below, which takes space on a disk."""
    frame = numbered_frame(index % 256, size_hw)
    frame[16:] = np.random.default_rng(index).integers(0, 256, (size_hw[0] - 16, size_hw[1], 3), dtype=np.uint8)
    return frame


def probed_frames(path: Path) -> int:
    """How many frames FFmpeg's own reader decodes; it must have nothing to complain about."""
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed; get it with: apt install ffmpeg")
    command = ["ffprobe", "-v", "warning", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return int(done.stdout)


def require_first(path: Path, count: int) -> None:
    """It plays, and shows the first `count` frames."""
    assert probed_frames(path) == count
    assert [number_of(picture) for picture in decoded(path)] == [index % 256 for index in range(count)]


def frames_in_index(path: Path) -> int:
    """Of a file in fragments only those of the first one."""
    with av.open(str(path)) as file:
        return file.streams.video[0].frames


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_video_plays_while_it_is_written_and_is_regular_at_the_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    sink = VideoFile(path, info())
    for index in range(180):
        sink.write(result_of(noisy(index), index=index))
    require_first(tmp_path / f"a.recording{suffix}", 150)  # three fragments of two seconds
    sink.close()
    require_first(path, 180)
    assert suffix == ".mkv" or frames_in_index(path) == 180
    assert list(tmp_path.iterdir()) == [path]


def test_frames_that_come_seldom_are_on_the_disk_as_soon(tmp_path: Path) -> None:
    """As the card of a live source without signal, twice a second: a fragment is two seconds, not a number of frames."""
    sink = VideoFile(tmp_path / "a.mp4", info())
    for index in range(60):
        sink.write(result_of(noisy(index), index=index, time_s=Fraction(index, 2)))
    frames = probed_frames(tmp_path / "a.recording.mp4")
    assert frames % 4 == 0
    assert frames >= 32  # the encoder holds some back
    sink.close()
    require_first(tmp_path / "a.mp4", 60)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_stops_the_recording_and_keeps_it(full_disk: Path, suffix: str) -> None:
    path = full_disk / f"a{suffix}"
    sink = VideoFile(path, info())
    with pytest.raises(QtsegError) as caught:
        for index in range(2000):
            sink.write(result_of(noisy(index), index=index))
    sink.abandon()
    frames = probed_frames(path)
    require_first(path, frames)
    assert frames >= 50
    assert f"{path}: recording stopped after {frames} frames, {frames / 25:.1f} s (No space left on device)" in str(caught.value)
    assert list(full_disk.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_is_full_at_the_end_costs_the_last_seconds(full_disk: Path, suffix: str) -> None:
    path = full_disk / f"a{suffix}"
    sink = VideoFile(path, info())
    for index in range(90):
        sink.write(result_of(noisy(index, (64, 96)), index=index))
    filler = full_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(QtsegError, match=r"recording stopped after 50 frames, 2\.0 s \(No space left on device\)"):
        sink.close()
    require_first(path, 50)


def test_a_disk_without_space_for_the_first_seconds_leaves_nothing(tmp_path: Path) -> None:
    sink = VideoFile(tmp_path / "a.mp4", info())
    with small_disk(), pytest.raises(QtsegError, match=r"a\.mp4: cannot be written \(File too large\); nothing is left of it"):
        for index in range(80):
            sink.write(result_of(noisy(index), index=index))
    sink.abandon()
    assert list(tmp_path.iterdir()) == []


CHILD = """
import sys
from pathlib import Path
from qtseg_edge.runtime.sinks.video_writer import VideoFile
from tests.runtime.stand_ins import info, result_of
from tests.runtime.test_recording import noisy
sink = VideoFile(Path(sys.argv[1]), info())
for index in range(100_000):
    sink.write(result_of(noisy(index), index=index))
    print(index, flush=True)
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_a_killed_process_has_written_plays(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    written = 0
    for line in child.stdout:
        written = int(line) + 1
        if written >= 130:
            break
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    child.wait(10)
    left = tmp_path / f"a.recording{suffix}"
    assert list(tmp_path.iterdir()) == [left]
    frames = probed_frames(left)
    assert frames >= 100
    require_first(left, frames)
    again = VideoFile(path, info())  # the next run leaves it alone
    again.write(result_of(noisy(0)))
    assert (tmp_path / f"a.recording-2{suffix}").is_file()
    again.close()
    assert sorted(tmp_path.iterdir()) == sorted([path, left])
    require_first(left, frames)


@pytest.mark.timing
def test_closing_a_recording_of_720p_takes_no_second(tmp_path: Path) -> None:
    """Nothing that is on the disk already is moved, and the encoder holds back few frames."""
    sink = VideoFile(tmp_path / "a.mp4", info())
    for index in range(30):
        sink.write(result_of(numbered_frame(index, (720, 1280)), index=index))
    started = time.perf_counter()
    sink.close()
    assert time.perf_counter() - started < 1.0


def test_a_piece_is_on_the_disk_whole_or_not_at_all(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "a.bin")
    recording.write(b"a" * 10_000)
    assert recording.flush()
    recording.write(b"b" * 10_000)
    with small_disk(), pytest.raises(OSError, match="File too large"):
        recording.flush()
    assert not recording.flush()
    assert recording.tell() == recording.size == 10_000
    recording.write(b"c")
    recording.flush()
    recording.keep()
    assert (tmp_path / "a.bin").read_bytes() == b"a" * 10_000 + b"c"


def test_its_beginning_is_changed_only_after_its_end_is_there(tmp_path: Path) -> None:
    """A muxer that first marks a file as finished, and then has no space for the index, would make it unreadable."""
    recording = Recording(tmp_path / "a.bin")
    recording.write(b"a" * 10_000)
    recording.flush()
    recording.seek(0)
    recording.write(b"done")
    recording.seek(0, os.SEEK_END)
    recording.write(b"b" * 10_000)
    with small_disk(), pytest.raises(OSError, match="File too large"):
        recording.flush()
    recording.keep()
    assert (tmp_path / "a.bin").read_bytes() == b"a" * 10_000


def test_space_that_is_reserved_is_there(full_disk: Path) -> None:
    recording = Recording(full_disk / "a.bin")
    recording.reserve(500_000)
    with pytest.raises(OSError, match="No space left"):
        (full_disk / "b.bin").write_bytes(bytes(1_000_000))
    recording.write(b"a" * 500_000)
    recording.flush()
    with pytest.raises(OSError, match="No space left"):
        recording.reserve(2_000_000)
    recording.cut(400_000)
    recording.keep()
    assert (full_disk / "a.bin").read_bytes() == b"a" * 400_000


def test_a_folder_that_goes_away_is_told_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    recording = Recording(folder / "a.bin")
    shutil.rmtree(folder)
    with pytest.raises(QtsegError, match=r"a\.bin: cannot take its name \(No such file or directory\)"):
        recording.keep()
