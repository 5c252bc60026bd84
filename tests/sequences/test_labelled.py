"""Which mask belongs to which frame, and what is said where one does not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from qtseg_edge.errors import QtsegError, UsageError
from qtseg_edge.sequences.labelled import LabelledSequence, natural_order
from tests.labelled import box
from tests.media import write_video
from tests.sequences.scenes import LESION, Scene

SCENE = Scene(12).label(LESION, 3, 4, 10).see(LESION, 3, 4, 10)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4", SCENE.rgb())


def labelled(sequence: LabelledSequence) -> list[int]:
    """Indices of the frames with a label."""
    return [frame.index for frame, label in sequence.pairs(2) if label.any()]


@pytest.mark.parametrize("first", [0, 1])
def test_masks_of_a_video_are_counted_from_0_or_1(video: Path, tmp_path: Path, first: int) -> None:
    _, masks = SCENE.write(tmp_path / "data", first)
    sequence = LabelledSequence(video, masks)
    assert len(sequence) == 12
    assert labelled(sequence) == [3, 4, 10]
    assert labelled(sequence) == [3, 4, 10]  # as often as one likes


def test_frames_of_a_folder_come_in_the_order_of_their_numbers_at_the_given_rate(tmp_path: Path) -> None:
    sequence = LabelledSequence(*SCENE.write(tmp_path), fps=8)
    pairs = list(sequence.pairs(2))
    assert [frame.index for frame, label in pairs if label.any()] == [3, 4, 10]
    assert [frame.index for frame, _ in pairs if (frame.rgb[20, 20, 0] > 200)] == [3, 4, 10]
    assert [float(frame.time) for frame, _ in pairs] == [index / 8 for index in range(12)]


def test_times_of_a_broadcast_rate_do_not_drift(tmp_path: Path) -> None:
    sequence = LabelledSequence(*Scene(1).write(tmp_path), fps=29.97)
    assert sequence.rate == pytest.approx(30_000 / 1001, rel=1e-5)


def test_the_order_is_natural() -> None:
    names = ["b", "2", "a10x1", "a2x20", "a2x3", "10", "a", "a2", "²"]
    assert [path.stem for path in natural_order([Path(f"{name}.png") for name in names])] == [
        "2",
        "10",
        "a",
        "a2",
        "a2x3",
        "a2x20",
        "a10x1",
        "b",
        "²",
    ]


def test_a_frame_of_a_folder_without_a_mask_is_told(tmp_path: Path) -> None:
    frames, masks = SCENE.write(tmp_path)
    (masks / "4.png").unlink()
    (masks / "10.png").unlink()
    with pytest.raises(UsageError, match=r"masks: no mask for 2 of 12 frames, first 4\.png; every frame needs one, an empty one where"):
        LabelledSequence(frames, masks, 10)


def test_a_gap_in_the_masks_of_a_video_is_told(video: Path, tmp_path: Path) -> None:
    _, masks = SCENE.write(tmp_path / "data")
    (masks / "4.png").unlink()
    with pytest.raises(UsageError, match=r"masks: no mask number 4; every frame needs one"):
        LabelledSequence(video, masks)
    for index in (0, 1):
        (masks / f"{index}.png").unlink()
    with pytest.raises(UsageError, match=r"the first mask is number 2, wanted 0 or 1"):
        LabelledSequence(video, masks)


@pytest.mark.parametrize(("name", "match"), [("4_mask.png", "wanted a name that ends in the number"), ("04.png", "are for the same frame")])
def test_a_mask_whose_frame_is_not_clear_is_told(video: Path, tmp_path: Path, name: str, match: str) -> None:
    _, masks = SCENE.write(tmp_path / "data")
    (masks / name).write_bytes((masks / "4.png").read_bytes())
    with pytest.raises(UsageError, match=match):
        LabelledSequence(video, masks)


@pytest.mark.parametrize(("masks", "said"), [(11, "more than 11"), (14, "12")])
def test_another_number_of_masks_than_frames_is_told_where_it_turns_out(video: Path, tmp_path: Path, masks: int, said: str) -> None:
    sequence = LabelledSequence(video, Scene(masks).write(tmp_path / "data")[1])
    with pytest.raises(UsageError, match=f"has {said} frames, .*masks has {masks} masks; every frame needs one"):
        labelled(sequence)


def test_a_mask_of_another_size_is_told(tmp_path: Path) -> None:
    frames, masks = SCENE.write(tmp_path)
    cv2.imwrite(str(masks / "5.png"), np.zeros((10, 20), np.uint8))
    with pytest.raises(QtsegError, match=r"5\.png: mask of 20x10 for a frame of 96x64"):
        labelled(LabelledSequence(frames, masks, 10))


def test_a_mask_of_class_numbers_is_no_mask_of_two_classes(tmp_path: Path) -> None:
    frames, masks = SCENE.write(tmp_path)
    cv2.imwrite(str(masks / "5.png"), box(*LESION).astype(np.uint8) + box(0, 0, 5, 5))
    labelled(LabelledSequence(frames, masks, 10))
    cv2.imwrite(str(masks / "5.png"), box(*LESION) * 2 + box(0, 0, 5, 5).astype(np.uint8))
    with pytest.raises(QtsegError, match=r"5\.png: wanted a mask of two levels, got 3"):
        labelled(LabelledSequence(frames, masks, 10))


def test_a_folder_needs_its_rate(tmp_path: Path) -> None:
    frames, masks = SCENE.write(tmp_path)
    with pytest.raises(UsageError, match=r"frames: a folder of frames tells no time; give its frames per second, such as --fps 25"):
        LabelledSequence(frames, masks)
    for fps in (0, -1, 1e-6, 1e6, float("nan")):
        with pytest.raises(UsageError, match="--fps: wanted 0.01 to 1000 frames per second, got"):
            LabelledSequence(frames, masks, fps)


@pytest.mark.parametrize("name", ["nowhere.mp4", "0", "frames/*.png", "rtsp://camera/live"])
def test_what_is_no_file_is_no_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Not a camera, not a pattern, not an address: those have no masks."""
    _, masks = SCENE.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no such file or folder; wanted a video or a folder of frames"):
        LabelledSequence(Path(name), masks, 10)


def test_a_single_image_is_no_sequence(tmp_path: Path) -> None:
    frames, masks = SCENE.write(tmp_path)
    with pytest.raises(UsageError, match=r"0\.png: wanted a video or a folder of frames, got a single image"):
        LabelledSequence(frames / "0.png", masks)


def test_a_file_that_is_no_video_is_told(tmp_path: Path) -> None:
    _, masks = SCENE.write(tmp_path)
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(QtsegError, match=r"a\.mp4: not a video that can be opened"):
        LabelledSequence(tmp_path / "a.mp4", masks)
