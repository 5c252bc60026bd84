from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError, SourceLostError, UsageError
from qtseg_edge.runtime import open_source
from qtseg_edge.runtime.frames import Frame
from tests.media import cut_off, number_of, numbered_frame, numbered_frames, write_video


def write_image(path: Path, rgb: NDArray[np.generic]) -> Path:
    """RGB, RGBA or grey, in whatever format the suffix names."""
    code = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(rgb.shape[2] if rgb.ndim == 3 else 1)
    assert cv2.imwrite(str(path), rgb if code is None else cv2.cvtColor(rgb, code))  # type: ignore[call-overload]
    return path


def frames_of(text: str | Path) -> list[Frame]:
    with open_source(str(text)) as source:
        return list(source)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".PNG"])
def test_a_lossless_image_is_one_frame_with_its_exact_values(tmp_path: Path, suffix: str) -> None:
    original = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
    (frame,) = frames_of(write_image(tmp_path / f"a{suffix}", original))
    assert np.array_equal(frame.rgb, original)
    assert (frame.index, frame.time, frame.source) == (0, 0, str(tmp_path / f"a{suffix}"))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_a_lossy_image_is_close(tmp_path: Path, suffix: str) -> None:
    (frame,) = frames_of(write_image(tmp_path / f"a{suffix}", numbered_frame(9)))
    assert number_of(frame.rgb) == 9
    assert np.abs(frame.rgb.astype(np.int16) - numbered_frame(9)).mean() < 6


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 45 * 31).astype(np.uint16).reshape(31, 45)
    (frame,) = frames_of(write_image(tmp_path / "a.tif", np.stack([levels] * 3, axis=-1)))
    assert frame.rgb.dtype == np.uint8
    assert np.abs(frame.rgb - levels[..., None] / 257.0).max() <= 1


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = np.arange(240, dtype=np.uint8).reshape(12, 20)
    (frame,) = frames_of(write_image(tmp_path / "a.png", grey))
    assert np.array_equal(frame.rgb, np.stack([grey] * 3, axis=-1))


def test_transparency_is_left_out(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (12, 20, 4), dtype=np.uint8)
    (frame,) = frames_of(write_image(tmp_path / "a.png", rgba))
    assert np.array_equal(frame.rgb, rgba[..., :3])


def test_a_directory_gives_its_images_by_name_and_nothing_else(tmp_path: Path) -> None:
    for name, number in (("b.png", 2), ("a.png", 1), ("c.jpg", 3)):
        write_image(tmp_path / name, numbered_frame(number))
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "deeper").mkdir()
    write_image(tmp_path / "deeper" / "d.png", numbered_frame(4))
    with open_source(str(tmp_path)) as source:
        assert source.info.frames == 3
        assert source.info.images
        assert [number_of(frame.rgb) for frame in source] == [1, 2, 3]


def test_images_of_a_directory_may_differ_in_size(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", numbered_frame(1, (48, 64)))
    write_image(tmp_path / "b.png", numbered_frame(2, (80, 120)))
    assert [frame.rgb.shape[:2] for frame in frames_of(tmp_path)] == [(48, 64), (80, 120)]


def test_a_pattern_gives_videos_of_different_sizes_one_after_the_other(tmp_path: Path) -> None:
    write_video(tmp_path / "1.mp4", numbered_frames(3, (48, 64)))
    write_video(tmp_path / "2.mp4", numbered_frames(2, (64, 96)), rate=50)
    with open_source(str(tmp_path / "*.mp4")) as source:
        assert source.info.frames == 5
        assert source.info.rate == 25
        assert not source.info.images
        frames = list(source)
    places = [("1.mp4", 0), ("1.mp4", 1), ("1.mp4", 2), ("2.mp4", 0), ("2.mp4", 1)]
    assert [(Path(frame.source).name, frame.index) for frame in frames] == places
    assert [frame.rgb.shape[:2] for frame in frames] == [(48, 64)] * 3 + [(64, 96)] * 2
    assert [frame.time for frame in frames] == [0, Fraction(1, 25), Fraction(2, 25), 0, Fraction(1, 50)]


def test_a_pattern_goes_into_folders_and_passes_over_directories(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").mkdir()
    (tmp_path / "deep").mkdir()
    write_video(tmp_path / "deep" / "a.mp4", numbered_frames(2))
    assert len(frames_of(f"{tmp_path}/**/*.mp4")) == 2


def test_a_name_that_looks_like_a_pattern_is_taken_literally_where_it_exists(tmp_path: Path) -> None:
    write_image(tmp_path / "a[1].png", numbered_frame(1))
    assert number_of(frames_of(tmp_path / "a[1].png")[0].rgb) == 1


def test_two_inputs_of_the_same_name_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", numbered_frame(1))
    write_image(tmp_path / "a.jpg", numbered_frame(1))
    with pytest.raises(UsageError, match="several inputs are called 'a'"):
        open_source(str(tmp_path))


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no images \(.*\.jpg"):
        open_source(str(tmp_path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.mp4: no such file or directory"):
        open_source(str(tmp_path / "a.mp4"))


def test_a_pattern_without_a_match_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\*\.mp4: matches no file"):
        open_source(str(tmp_path / "*.mp4"))


@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_an_empty_file_is_refused_before_anything_runs(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(QtsegError, match="is empty"):
        open_source(str(tmp_path / name))


def test_a_file_among_several_that_is_no_video_is_refused_before_anything_runs(tmp_path: Path) -> None:
    write_video(tmp_path / "1.mp4", numbered_frames(2))
    (tmp_path / "2.mp4").write_text("text", encoding="utf-8")
    with pytest.raises(QtsegError, match=r"2\.mp4: not a video"):
        open_source(str(tmp_path / "*.mp4"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_an_image_that_is_cut_off_is_not_filled_up(tmp_path: Path, suffix: str, share: float) -> None:
    path = write_image(tmp_path / f"a{suffix}", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    cut_off(path, share)
    with open_source(str(path)) as source, pytest.raises(QtsegError, match=r"a\.\w+: wanted an image, but it does not decode"):
        list(source)


def test_an_image_that_does_not_decode_says_which(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", numbered_frame(1))
    cut_off(write_image(tmp_path / "2.png", numbered_frame(2)), 0.05)
    with open_source(str(tmp_path)) as source, pytest.raises(QtsegError, match=r"2\.png: wanted an image"):
        list(source)


def test_a_video_that_breaks_among_several_ends_the_reading_there(tmp_path: Path) -> None:
    for name in ("1.mp4", "2.mp4", "3.mp4"):
        write_video(tmp_path / name, numbered_frames(60), container={"movflags": "+faststart"})
    cut_off(tmp_path / "2.mp4", 0.6)
    read = []
    with open_source(str(tmp_path / "*.mp4")) as source, pytest.raises(SourceLostError, match=r"2\.mp4: broke after frame"):
        for frame in source:
            read.append(Path(frame.source).name)
    assert read.count("1.mp4") == 60
    assert 5 < read.count("2.mp4") < 55
    assert "3.mp4" not in read


def test_every_file_that_is_read_is_listed(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", numbered_frame(1))
    write_image(tmp_path / "b.png", numbered_frame(1))
    video = write_video(tmp_path / "c.mp4", numbered_frames(1))
    for text, files in ((tmp_path, ("a.png", "b.png")), (tmp_path / "a.png", ("a.png",)), (video, ("c.mp4",))):
        with open_source(str(text)) as source:
            assert [path.name for path in source.info.files] == list(files)


def test_without_a_video_library_images_work_and_video_names_the_cure(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", numbered_frame(1))
    write_video(tmp_path / "a.mp4", numbered_frames(1))
    program = """
import sys
sys.modules["av"] = None
from qtseg_edge.errors import MissingError
from qtseg_edge.runtime import open_source
assert len(list(open_source("a.png"))) == 1
try:
    open_source("a.mp4")
except MissingError as error:
    print(error)
"""
    repository = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(repository)}, capture_output=True, text=True, check=True
    )
    assert "pip install 'qtseg-edge[cpu]'" in done.stdout
