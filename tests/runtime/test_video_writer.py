from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime import open_source
from qtseg_edge.runtime.frames import SourceInfo
from qtseg_edge.runtime.sinks.video_writer import VideoFile
from tests.disks import small_disk
from tests.media import cornered_frame, corners_of, decoded, number_of, numbered_frame, numbered_frames, times_of, write_video
from tests.runtime.stand_ins import info, result_of


def written(path: Path, frames: list[NDArray[np.uint8]], about: SourceInfo | None = None, times: list[Fraction] | None = None) -> Path:
    sink = VideoFile(path, about or info())
    for index, rgb in enumerate(frames):
        sink.write(result_of(rgb, index=index, **({} if times is None else {"time_s": times[index]})))  # type: ignore[arg-type]
    sink.close()
    return path


def rewritten(source_path: Path, path: Path) -> list[Fraction]:
    """Copy a video through reader and writer; the times that were read."""
    times = []
    with open_source(str(source_path)) as source:
        sink = VideoFile(path, source.info)
        for frame in source:
            sink.write(result_of(frame.rgb, index=frame.index, time_s=frame.time))
            times.append(frame.time)
        sink.close()
    return times


def test_players_are_told_how_to_turn_it_into_colours(tmp_path: Path) -> None:
    """Untold, they take BT.601 for a small picture and BT.709 for a large one; swscale has made BT.601 of both."""
    with av.open(str(written(tmp_path / "a.mp4", [cornered_frame((720, 1280))]))) as file:
        picture = next(file.decode(video=0))
    assert (picture.colorspace, picture.color_range) == (6, 1)
    assert np.abs(picture.to_ndarray(format="rgb24")[4:12, 4:12].astype(np.int16) - cornered_frame((720, 1280))[4:12, 4:12]).max() <= 12


def stream_of(path: Path) -> Any:
    with av.open(str(path)) as file:
        return file.streams.video[0]


def test_it_is_h264_of_the_kind_that_every_browser_plays(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4", numbered_frames(10))
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.codec_context.width, stream.codec_context.height) == (64, 48)
        assert stream.average_rate == 25
    assert path.read_bytes()[4:8] == b"ftyp"


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv"])
def test_every_frame_is_there_once_and_in_order(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    pictures = decoded(written(tmp_path / f"a{suffix}", numbered_frames(40)))
    assert caplog.records == []  # no option that this container does not know
    assert [number_of(picture) for picture in pictures] == list(range(40))
    assert list(tmp_path.iterdir()) == [tmp_path / f"a{suffix}"]


def test_pictures_are_close_to_what_was_given(tmp_path: Path) -> None:
    pictures = decoded(written(tmp_path / "a.mp4", numbered_frames(5, (96, 128))))
    assert max(np.abs(picture.astype(np.int16) - numbered_frame(n, (96, 128))).mean() for n, picture in enumerate(pictures)) < 4


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60), Fraction(12), Fraction(1, 2)])
@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".avi"])
def test_times_of_a_constant_rate_are_those_of_the_source(tmp_path: Path, rate: Fraction, suffix: str) -> None:
    source = write_video(tmp_path / f"source{suffix}", numbered_frames(20), rate=rate, codec="mpeg4" if suffix == ".avi" else "libx264")
    read = rewritten(source, tmp_path / "a.mp4")
    assert times_of(tmp_path / "a.mp4") == read
    assert read == pytest.approx([n / rate for n in range(20)], abs=1e-4)  # a transport stream counts in 1/90000


def test_irregular_times_are_those_of_the_source(tmp_path: Path) -> None:
    times = [0, 7, 8, 40, 41, 42, 400, 1000, 1001, 3000]
    source = write_video(tmp_path / "source.mkv", numbered_frames(10), times=times, time_base=Fraction(1, 1000))
    rewritten(source, tmp_path / "a.mp4")
    assert times_of(tmp_path / "a.mp4") == [Fraction(time, 1000) for time in times]


def test_times_survive_in_a_container_of_milliseconds(tmp_path: Path) -> None:
    source = write_video(tmp_path / "source.mp4", numbered_frames(20), rate=Fraction(30000, 1001))
    read = rewritten(source, tmp_path / "a.mkv")
    assert times_of(tmp_path / "a.mkv") == pytest.approx(read, abs=0.001)


def test_times_that_stand_still_or_go_back_still_give_a_playable_file(tmp_path: Path) -> None:
    times = [Fraction(n, 25) for n in (0, 1, 1, 0, 5, 5)]
    stamps = times_of(written(tmp_path / "a.mp4", numbered_frames(6), times=times))
    assert len(stamps) == 6
    assert stamps == sorted(set(stamps))


def test_a_time_base_finer_than_containers_hold_is_rounded(tmp_path: Path) -> None:
    about = info(time_base=Fraction(1, 10_000_000_019))
    stamps = times_of(written(tmp_path / "a.mp4", numbered_frames(5), about))
    assert stamps == pytest.approx([n / 25 for n in range(5)], abs=2e-6)


@pytest.mark.parametrize("size_hw", [(47, 63), (48, 63), (47, 64)])
def test_odd_sides_grow_by_one_repeated_line(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    picture = decoded(written(tmp_path / "a.mp4", [cornered_frame(size_hw)]))[0]
    assert picture.shape == (48, 64, 3)
    assert corners_of(picture) == "rgb."
    assert np.abs(picture[-1].astype(np.int16) - picture[-2]).mean() < 8
    assert np.abs(picture[:, -1].astype(np.int16) - picture[:, -2]).mean() < 8


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 40), (40, 3)])
def test_tiny_frames_are_written(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    pictures = decoded(written(tmp_path / "a.mp4", [np.full((*size_hw, 3), 90, np.uint8)] * 3))
    assert [picture.shape[:2] for picture in pictures] == [(size_hw[0] + size_hw[0] % 2, size_hw[1] + size_hw[1] % 2)] * 3


@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(12, 11), Fraction(64, 45)])
def test_the_shape_of_the_pixels_is_kept(tmp_path: Path, aspect: Fraction) -> None:
    source = write_video(tmp_path / "source.mp4", numbered_frames(2), pixel_aspect=aspect)
    rewritten(source, tmp_path / "a.mp4")
    assert stream_of(tmp_path / "a.mp4").sample_aspect_ratio == aspect


def test_a_second_source_goes_on_a_frame_after_the_first(tmp_path: Path) -> None:
    sink = VideoFile(tmp_path / "a.mp4", info(time_base=Fraction(1, 1000)))
    for source in ("1.mp4", "2.mp4", "3.mp4"):
        for index in range(3):
            sink.write(result_of(numbered_frame(index), index=index, source=source))
    sink.close()
    assert times_of(tmp_path / "a.mp4") == [Fraction(n, 25) for n in range(9)]
    assert [number_of(picture) for picture in decoded(tmp_path / "a.mp4")] == [0, 1, 2] * 3


@pytest.mark.parametrize(("later_hw", "content"), [((96, 64), (48, 32)), ((24, 64), (24, 64)), ((100, 400), (16, 64))])
def test_a_later_size_is_scaled_to_fit_and_padded_black(tmp_path: Path, later_hw: tuple[int, int], content: tuple[int, int]) -> None:
    pictures = decoded(written(tmp_path / "a.mp4", [np.full((48, 64, 3), 200, np.uint8), np.full((*later_hw, 3), 200, np.uint8)]))
    assert [picture.shape for picture in pictures] == [(48, 64, 3)] * 2
    height, width = content
    bright = np.zeros((48, 64), bool)
    bright[:height, :width] = True
    seen = pictures[1].mean(axis=-1)
    assert seen[bright].mean() > 180
    assert bright.all() or seen[~bright].mean() < 25


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path("12:30.mp4"), numbered_frames(2))
    assert len(decoded(Path("12:30.mp4"))) == 2


def test_abandoning_keeps_what_was_written(tmp_path: Path) -> None:
    sink = VideoFile(tmp_path / "a.mp4", info())
    for index in range(3):
        sink.write(result_of(numbered_frame(index), index=index))
    sink.abandon()
    assert [number_of(picture) for picture in decoded(tmp_path / "a.mp4")] == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


def test_without_a_frame_nothing_is_left(tmp_path: Path) -> None:
    VideoFile(tmp_path / "a.mp4", info()).abandon()
    VideoFile(tmp_path / "a.mp4", info()).close()
    assert list(tmp_path.iterdir()) == []


def test_a_lost_signal_keeps_the_real_time(tmp_path: Path) -> None:
    """A live source goes on after a minute, with frames of another size."""
    live = replace(info(time_base=Fraction(1, 1_000_000)), live=True)
    sink = VideoFile(tmp_path / "a.mp4", live)
    for index in range(5):
        sink.write(result_of(numbered_frame(index), index=index))
    black = result_of(np.zeros((48, 64, 3), np.uint8), index=5, time_s=Fraction(30))
    sink.write(replace(black, frame=replace(black.frame, has_signal=False)))
    sink.write(result_of(numbered_frame(6, (96, 128)), index=6, time_s=Fraction(6042, 100)))
    sink.close()
    times = times_of(tmp_path / "a.mp4")
    assert times[4:] == [Fraction(4, 25), Fraction(30), Fraction(6042, 100)]
    pictures = decoded(tmp_path / "a.mp4")
    assert pictures[5].max() > 100  # NO SIGNAL
    assert pictures[6].shape == (48, 64, 3)


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"older")
    sink = VideoFile(path, info())
    sink.write(result_of(numbered_frame(0)))
    assert path.read_bytes() == b"older"
    sink.close()
    assert len(decoded(path)) == 1


@pytest.mark.parametrize("frames", [3, 80])
def test_a_full_disk_is_reported(tmp_path: Path, frames: int) -> None:
    """With few frames everything is still in the encoder when the file is closed; with many it is noticed before."""
    sink = VideoFile(tmp_path / "a.mp4", info())
    noise = np.random.default_rng(0).integers(0, 256, (80, 128, 192, 3), dtype=np.uint8)
    written = 0
    with small_disk(), pytest.raises(QtsegError, match=r"a\.mp4: cannot be written \(File too large\); nothing is left of it"):
        for index in range(frames):
            sink.write(result_of(noise[index], index=index))
            written += 1
        sink.close()
    if written < frames:
        sink.abandon()
    assert (written < frames) == (frames == 80)
    assert list(tmp_path.iterdir()) == []
