from __future__ import annotations

import platform
import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, SourceLostError
from qtseg_edge.runtime.frames import Frame
from qtseg_edge.runtime.sources.video_reader import VideoReader
from tests.media import (
    blanked,
    cornered_frame,
    corners_of,
    cut_off,
    number_of,
    numbered_frame,
    numbered_frames,
    write_sound,
    write_video,
)

TIMES_25_FPS = [Fraction(n, 25) for n in range(12)]


def frames_of(path: Path) -> list[Frame]:
    with VideoReader(path) as reader:
        return list(reader)


def read_until_lost(path: Path) -> tuple[list[Frame], SourceLostError]:
    frames: list[Frame] = []
    with VideoReader(path) as reader, pytest.raises(SourceLostError) as raised:
        for frame in reader:
            frames.append(frame)
    return frames, raised.value


def mean_difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    return float(np.abs(first.astype(np.int16) - second).mean())


CONTAINERS = {
    "h264.mp4": {"options": {"preset": "ultrafast", "crf": "12"}},
    "h264-b-frames.mp4": {"options": {"preset": "fast", "crf": "12", "bf": "3"}},
    "h264.ts": {"options": {"preset": "fast", "crf": "12"}},
    "h264.mov": {"options": {"preset": "fast", "crf": "12"}},
    "h264-b-frames.avi": {"options": {"preset": "fast", "crf": "12", "bf": "3"}},
    "raw.h264": {"options": {"preset": "fast", "crf": "12", "bf": "3"}},
    "hevc.mp4": {"codec": "libx265", "options": {"preset": "ultrafast", "crf": "12", "x265-params": "log-level=none"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "crf": "10"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"q": "2", "b": "2000000"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"b": "4000000"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {"qmin": "2", "qmax": "2"}},
    "ffv1.mkv": {"codec": "ffv1", "pix_fmt": "bgr0"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "ten-bit.mkv": {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"crf": "12", "x265-params": "log-level=none"}},
    "full-chroma.mp4": {"pix_fmt": "yuv444p", "options": {"preset": "fast", "crf": "12"}},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_frame_comes_once_in_order_with_its_time_and_its_values(tmp_path: Path, name: str) -> None:
    originals = numbered_frames(12)
    path = write_video(tmp_path / name, originals, **CONTAINERS[name])  # type: ignore[arg-type]
    frames = frames_of(path)
    assert [number_of(frame.rgb) for frame in frames] == list(range(12))
    assert [frame.index for frame in frames] == list(range(12))
    if "b-frames.avi" not in name:  # this container has no place for their order
        assert [frame.time for frame in frames] == TIMES_25_FPS
    assert all(frame.rgb.dtype == np.uint8 and frame.rgb.shape == (48, 64, 3) for frame in frames)
    assert max(mean_difference(frame.rgb, wanted) for frame, wanted in zip(frames, originals, strict=True)) < 4


def test_h264_in_avi_whose_times_are_out_of_order_never_goes_back(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", numbered_frames(40), options={"preset": "fast", "bf": "3"})
    times = [frame.time for frame in frames_of(path)]
    assert all(later > earlier for earlier, later in pairwise(times))
    assert abs(times[-1] - Fraction(39, 25)) <= Fraction(2, 25)


def test_a_gif_is_whole_though_its_last_picture_is_shown_for_long(tmp_path: Path) -> None:
    """The length that it announces ends with that picture, not a frame after it began."""
    originals = [np.full((48, 64, 3), 8 * level, np.uint8) for level in range(30)]
    times = [0, *range(7, 297, 10)]
    path = write_video(tmp_path / "a.gif", originals, codec="gif", pix_fmt="gray", times=times, time_base=Fraction(1, 100))
    data = bytearray(path.read_bytes())
    delay = data.rindex(b"\x21\xf9\x04") + 4
    data[delay : delay + 2] = (600).to_bytes(2, "little")  # hundredths of a second
    path.write_bytes(data)
    frames = frames_of(path)
    assert [frame.time for frame in frames] == [Fraction(time, 100) for time in times]
    assert [int(frame.rgb.mean()) for frame in frames] == list(range(0, 240, 8))


@pytest.mark.parametrize("size_hw", [(33, 47), (47, 33), (1, 1), (3, 200)])
def test_odd_sizes_keep_their_size_and_their_values(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    original = np.random.default_rng(1).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    path = write_video(tmp_path / "a.mkv", [original] * 2, codec="ffv1", pix_fmt="bgr0")
    assert [np.array_equal(frame.rgb, original) for frame in frames_of(path)] == [True, True]


def test_an_odd_size_in_colour_subsampling(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", [numbered_frame(5, (51, 67))] * 3, codec="mjpeg", pix_fmt="yuvj420p")
    frames = frames_of(path)
    assert [frame.rgb.shape for frame in frames] == [(51, 67, 3)] * 3
    assert number_of(frames[1].rgb) == 5


def test_a_single_frame(tmp_path: Path) -> None:
    frames = frames_of(write_video(tmp_path / "a.mp4", numbered_frames(1)))
    assert [(frame.index, frame.time) for frame in frames] == [(0, 0)]


def test_portrait(tmp_path: Path) -> None:
    (frame,) = frames_of(write_video(tmp_path / "a.mp4", [cornered_frame((128, 64))]))
    assert frame.rgb.shape == (128, 64, 3)
    assert corners_of(frame.rgb) == "rgb."


def test_4k(tmp_path: Path) -> None:
    frames = frames_of(write_video(tmp_path / "a.mp4", [cornered_frame((2160, 3840))] * 3))
    assert [(frame.rgb.shape, corners_of(frame.rgb)) for frame in frames] == [((2160, 3840, 3), "rgb.")] * 3


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    original = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    (frame,) = frames_of(write_video(tmp_path / "a.mkv", [original], codec="ffv1", pix_fmt="gray"))
    assert np.array_equal(frame.rgb, np.repeat(original[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_irregular_times_are_kept_exactly(tmp_path: Path, suffix: str) -> None:
    """Time bases that the containers can hold: 1/90000 (ts), 1/1000 (mkv)."""
    times = [0, 10, 20, 130, 140, 470, 500, 501, 900]
    path = write_video(tmp_path / f"a{suffix}", numbered_frames(9), times=times, time_base=Fraction(1, 1000))
    assert [frame.time for frame in frames_of(path)] == [Fraction(time, 1000) for time in times]


@pytest.mark.parametrize(("rate", "step"), [(Fraction(30000, 1001), Fraction(1001, 30000)), (Fraction(60), Fraction(1, 60)), (1, 1)])
def test_rates_are_exact_fractions(tmp_path: Path, rate: Fraction, step: Fraction) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(5), rate=rate)
    with VideoReader(path) as reader:
        assert reader.info.rate == rate
        assert [frame.time for frame in reader] == [n * step for n in range(5)]


def test_times_count_from_the_first_frame_wherever_the_file_begins(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.ts", numbered_frames(5), times=[250, 251, 252, 253, 254])
    assert [frame.time for frame in frames_of(path)] == TIMES_25_FPS[:5]


TURNS = {0: ("rgb.", (64, 96)), 90: ("g.rb", (96, 64)), 180: (".bgr", (64, 96)), -90: ("br.g", (96, 64))}


@pytest.mark.parametrize("counter_clockwise", TURNS)
def test_a_turned_camera_gives_upright_frames(tmp_path: Path, counter_clockwise: int) -> None:
    corners, size_hw = TURNS[counter_clockwise]
    path = write_video(tmp_path / "a.mp4", [cornered_frame((64, 96))] * 3, rotation=counter_clockwise)
    assert [(frame.rgb.shape[:2], corners_of(frame.rgb)) for frame in frames_of(path)] == [(size_hw, corners)] * 3


def test_the_matrix_that_phones_write_for_portrait_turns_clockwise(tmp_path: Path) -> None:
    """ISO 14496-12: x' = a x + c y, y' = b x + d y; a = d = 0, b = 1, c = -1 sends the top left to the top right."""
    path = write_video(tmp_path / "a.mp4", [cornered_frame((64, 96))])
    identity, quarter = struct.pack(">5i", 65536, 0, 0, 0, 65536), struct.pack(">5i", 0, 65536, 0, -65536, 0)  # a b u c d
    data = path.read_bytes()
    at = data.index(identity, data.index(b"tkhd"))
    path.write_bytes(data[:at] + quarter + data[at + len(quarter) :])
    (frame,) = frames_of(path)
    assert (frame.rgb.shape[:2], corners_of(frame.rgb)) == ((96, 64), "br.g")


def test_a_sound_track_changes_nothing(tmp_path: Path) -> None:
    frames = frames_of(write_video(tmp_path / "a.mp4", numbered_frames(12), sound=True))
    assert [number_of(frame.rgb) for frame in frames] == list(range(12))
    assert [frame.time for frame in frames] == TIMES_25_FPS


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_sound_track_longer_than_the_picture_is_no_loss(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}", numbered_frames(3), sound=True)  # 0.12 s of picture, 1 s of sound
    assert len(frames_of(path)) == 3


def test_a_length_that_may_be_that_of_the_sound_is_not_believed(tmp_path: Path) -> None:
    """Without the tag that FFmpeg writes, as other programs leave it out, the video seems to be as long as the whole file."""
    path = write_video(tmp_path / "a.mkv", numbered_frames(3), sound=True)
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"DURATIOM"))
    with VideoReader(path) as reader:
        assert reader.info.frames is None
        assert len(list(reader)) == 3


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_the_expected_number_of_frames_is_known_where_the_file_says(tmp_path: Path, name: str) -> None:
    with VideoReader(write_video(tmp_path / name, numbered_frames(7))) as reader:
        assert reader.info.frames == 7


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_the_expected_number_of_frames_is_worked_out_from_the_length(tmp_path: Path, name: str) -> None:
    with VideoReader(write_video(tmp_path / name, numbered_frames(7))) as reader:
        assert reader.info.frames == 7


def test_pixel_aspect_is_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(2), pixel_aspect=Fraction(12, 11))
    with VideoReader(path) as reader:
        assert reader.info.pixel_aspect == Fraction(12, 11)


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_colours_are_read_by_the_matrix_they_are_tagged_with(tmp_path: Path, matrix: str) -> None:
    options = {"preset": "fast", "crf": "4", "x264-params": f"colormatrix={matrix}"}
    original = cornered_frame((64, 96))
    (frame,) = frames_of(write_video(tmp_path / "a.mp4", [original], options=options, bt709=matrix == "bt709"))
    assert np.abs(frame.rgb[4:12, 4:12].astype(np.int16) - original[4:12, 4:12]).max() <= 6


def test_frames_are_owned_by_their_holder(tmp_path: Path) -> None:
    frames = frames_of(write_video(tmp_path / "a.mp4", numbered_frames(6)))
    assert not any(np.shares_memory(first.rgb, second.rgb) for first, second in pairwise(frames))
    frames[0].rgb[:] = 0
    assert number_of(frames[1].rgb) == 1


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes `12:30.mp4` for the protocol `12`."""
    write_video(tmp_path / "a.mp4", numbered_frames(3)).rename(tmp_path / "12:30.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(frames_of(Path("12:30.mp4"))) == 3


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("this is a text\n" * 50, encoding="utf-8")
    with pytest.raises(QtsegError, match=r"a\.mp4: not a video that can be opened \(Invalid data"):
        VideoReader(path)


def test_a_text_file_is_not_read_as_the_picture_of_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("this is a text\n" * 50, encoding="utf-8")
    with pytest.raises(QtsegError, match=r"notes\.txt: holds no video stream"):
        VideoReader(path)


def test_a_file_with_sound_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QtsegError, match=r"a\.m4a: holds no video stream"):
        VideoReader(write_sound(tmp_path / "a.m4a"))


def test_the_cover_of_a_sound_file_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(QtsegError, match=r"a\.mp4: holds no video stream"):
        VideoReader(write_sound(tmp_path / "a.mp4", cover=numbered_frame(1)))


def test_a_codec_without_a_decoder_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(3))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    with pytest.raises(QtsegError, match="no decoder for its video"):
        VideoReader(path)


def test_a_cut_off_video_gives_its_good_part_and_says_where_it_broke(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(100), container={"movflags": "+faststart"})
    frames, error = read_until_lost(cut_off(path, 0.6))
    assert 20 < len(frames) < 80
    assert [number_of(frame.rgb) for frame in frames] == list(range(len(frames)))
    last = len(frames) - 1
    assert f"broke after frame {last} at {last / 25:.2f} s" in str(error)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_a_cut_off_video_of_a_container_without_an_index_is_noticed(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, numbered_frames(100))
    whole = len(frames_of(path))
    assert whole == 100
    if name == "a.ts":
        cut_off(path, 0.6)  # a transport stream does not announce its length: a clean cut is the end of the recording
        assert 20 < len(frames_of(path)) < 80
        return
    frames, error = read_until_lost(cut_off(path, 0.6))
    assert 20 < len(frames) < 80
    assert "missing of the 4.0 s" in str(error) or "damaged" in str(error)


FINDS_DAMAGE = pytest.mark.skipif(platform.machine() == "aarch64", reason="FFmpeg finds less of it on arm64: docs/decisions/0028-arm64.md")
DAMAGED: dict[str, dict[str, Any]] = {
    "b-frames.mp4": {"options": {"preset": "fast", "bf": "3", "g": "50"}},
    "simple.mp4": {"options": {"preset": "ultrafast", "g": "50"}},
    "b-frames.ts": {"options": {"preset": "fast", "bf": "3", "g": "50"}},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"b": "2000000"}},
}


@FINDS_DAMAGE
@pytest.mark.parametrize("name", DAMAGED)
def test_nothing_the_decoder_made_up_is_handed_on(tmp_path: Path, name: str) -> None:
    """Reading ends before the first picture that differs from the undamaged one. (Damage of a few bytes can go unnoticed; HEVC and
    VP9 hide even more: there is nothing in those streams to check a picture by.)"""
    texture = np.random.default_rng(3).integers(0, 60, (96, 328, 3), dtype=np.uint8)
    originals = [numbered_frame(n, (96, 128)) // 2 + texture[:, 2 * n : 2 * n + 128] for n in range(100)]
    path = write_video(tmp_path / name, originals, container={"movflags": "+faststart"} if "mp4" in name else None, **DAMAGED[name])
    intact = frames_of(path)
    assert len(intact) == 100
    frames, error = read_until_lost(blanked(path, 0.5, 0.55))
    assert 20 < len(frames) < 70
    assert all(np.array_equal(frame.rgb, wanted.rgb) for frame, wanted in zip(frames, intact, strict=False))
    assert f"broke after frame {len(frames) - 1} at {(len(frames) - 1) / 25:.2f} s" in str(error)


@FINDS_DAMAGE
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_pictures_made_up_from_a_damaged_one_are_not_handed_on(tmp_path: Path, share: float) -> None:
    """The B-frames before it in time are decoded after it, and carry no mark of their own."""
    texture = np.random.default_rng(3).integers(0, 60, (96, 328, 3), dtype=np.uint8)
    originals = [numbered_frame(n, (96, 128)) // 2 + texture[:, 2 * n : 2 * n + 128] for n in range(100)]
    path = write_video(tmp_path / "a.mp4", originals, options={"preset": "fast", "bf": "3", "g": "50"})
    whole, intact = path.read_bytes(), frames_of(path)
    with av.open(str(path)) as file:
        packets = [(packet.size, packet.pos) for packet in file.demux(video=0) if packet.size and not packet.is_keyframe]
    for size, position in sorted(packets[20:80])[-4:]:  # the largest: pictures that others are made from
        start, end = position + int(size * share), position + size
        path.write_bytes(whole[:start] + bytes(end - start) + whole[end:])
        frames, _ = read_until_lost(path)
        assert len(frames) > 10
        assert all(np.array_equal(frame.rgb, wanted.rgb) for frame, wanted in zip(frames, intact, strict=False))


def test_damage_to_the_first_picture_is_no_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(30), options={"preset": "fast"}, container={"movflags": "+faststart"})
    data = path.read_bytes()
    start = data.index(b"mdat") + 8
    path.write_bytes(data[:start] + b"\xff" * (len(data) - start))
    with VideoReader(path) as reader, pytest.raises(QtsegError, match="not a video that can be decoded") as raised:
        next(iter(reader))
    assert not isinstance(raised.value, SourceLostError)
