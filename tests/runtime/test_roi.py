"""`--roi`: what the network is shown of a frame, and how the endoscope's picture is followed."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.errors import UsageError
from qtseg_edge.runtime.roi.area import FollowedArea, Roi, area_for, parse_roi
from tests.runtime.scopes import FRAME_HW, Scope, cut_off, iou, tissue

Uint8 = NDArray[np.uint8]
Box = tuple[int, int, int, int]
WHOLE = (0, 0, FRAME_HW[1], FRAME_HW[0])
SMALL, LARGE = Scope("octagon", (0.9, 0.5), 0.3), Scope("octagon", (0.9, 0.5), 0.45)
ELSEWHERE = Scope("octagon", (0.6, 0.5), 0.4, text=0)
RATE = 10


def borderless(number: int = 0) -> Uint8:
    return np.asarray(cv2.resize(tissue(number), FRAME_HW[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def half_dark(scope: Scope, side: str) -> Uint8:
    _, _, w, h = scope.box
    fading = np.clip(np.linspace(-1, 1, w if side == "left" else h), 0, 1)
    shade = fading[None, :, None] if side == "left" else fading[:, None, None]
    half = cv2.resize(tissue(0), (w, h), interpolation=cv2.INTER_AREA) * shade
    return scope.picture(half.astype(np.uint8))


class Video:
    """Ten frames a second through an area that follows."""

    def __init__(self) -> None:
        self.area = FollowedArea()
        self.frames = 0

    def show(self, rgb: Uint8, seconds: float) -> list[Box]:
        """The crop of each frame."""
        boxes = []
        for _ in range(round(seconds * RATE)):
            boxes.append(self.area.of(rgb, self.frames / RATE))
            self.frames += 1
        return boxes


def shown(*parts: tuple[Uint8, float]) -> list[list[Box]]:
    video = Video()
    return [video.show(rgb, seconds) for rgb, seconds in parts]


@pytest.mark.parametrize(
    ("text", "roi"), [("auto", "auto"), ("none", "none"), ("280,0,720,720", (280, 0, 720, 720)), ("0,0,1,1", (0, 0, 1, 1))]
)
def test_what_the_user_may_write(text: str, roi: Roi) -> None:
    assert parse_roi(text) == roi


@pytest.mark.parametrize(
    "text",
    ["", "Auto", "1,2,3", "1,2,3,4,5", "-1,0,5,5", "0,0,0,5", "0,0,5,0", "1.5,0,5,5", "a,b,c,d", "1, 2,3,4", "\u0661,0,5,5", "0,0,5,5\n"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--roi: wanted auto, none, or x,y,w,h in pixels such as 280,0,720,720, got"):
        parse_roi(text)


def test_none_is_the_whole_frame_whatever_is_in_it() -> None:
    area = area_for("none")
    assert area.of(SMALL.picture(), 0.0) == WHOLE
    assert area.of(np.zeros((20, 30, 3), np.uint8), 0.1) == (0, 0, 30, 20)


def test_a_fixed_area_is_that_area() -> None:
    area = area_for((10, 20, 630, 340))
    assert area.of(borderless(), 0.0) == area.of(SMALL.picture(), None) == (10, 20, 630, 340)


@pytest.mark.parametrize("box", [(0, 0, 641, 10), (0, 0, 10, 361), (640, 0, 1, 1), (1, 1, 640, 1)])
def test_a_fixed_area_beyond_the_frame_is_refused_with_the_frames_size(box: Box) -> None:
    got = ",".join(map(str, box))
    with pytest.raises(UsageError, match=f"--roi: wanted an area x,y,w,h within the frame of 640x360 pixels, got {got}"):
        area_for(box).of(borderless(), 0.0)


def test_the_whole_frame_is_shown_until_the_picture_is_known_and_that_takes_less_than_two_seconds() -> None:
    (boxes,) = shown((SMALL.picture(), 3))
    assert boxes[0] == WHOLE and len(set(boxes)) == 2
    assert boxes.index(boxes[-1]) <= 2 * RATE
    assert iou(boxes[-1], SMALL.box) >= 0.93 and cut_off(boxes[-1], SMALL.box) == 0


def test_a_picture_without_border_is_never_cropped() -> None:
    (boxes,) = shown((borderless(), 5))
    assert set(boxes) == {WHOLE}


def test_a_picture_that_jitters_keeps_its_crop() -> None:
    video = Video()
    video.show(LARGE.picture(), 3)
    boxes = []
    for index in range(40):
        x, y = ((0, 0), (3, 0), (-3, 2), (1, -3))[index % 4]
        moved = cv2.warpAffine(LARGE.picture(), np.array([[1, 0, x], [0, 1, y]], float), FRAME_HW[::-1])
        boxes += video.show(np.asarray(moved, np.uint8), 0.5)
    assert len(set(boxes)) == 1


@pytest.mark.parametrize("later", [LARGE, ELSEWHERE], ids=["larger", "elsewhere"])
def test_what_appears_beyond_the_crop_is_shown_within_a_second(later: Scope) -> None:
    _, after = shown((SMALL.picture(), 3.1), (later.picture(), 3))  # just after a look
    grown = next(number for number, box in enumerate(after) if cut_off(box, later.box) <= 0.02)
    assert grown <= 0.8 * RATE
    assert all(cut_off(box, later.box) <= 0.02 for box in after[grown:])


@pytest.mark.parametrize(
    ("first", "later"), [(SMALL, LARGE), (LARGE, SMALL), (SMALL, ELSEWHERE), (LARGE, replace(SMALL, shape="circle"))], ids=range(4)
)
def test_a_picture_that_moved_or_was_resized_is_found_again_within_about_two_seconds(first: Scope, later: Scope) -> None:
    _, after = shown((first.picture(), 3), (later.picture(), 3))
    assert all(iou(box, later.box) >= 0.93 for box in after[round(2.2 * RATE) :])
    assert len(set(after)) <= 3


def test_a_border_that_vanishes_gives_the_whole_frame_within_a_second() -> None:
    _, after = shown((SMALL.picture(), 3), (borderless(), 2))
    assert after[RATE:] == [WHOLE] * RATE


@pytest.mark.parametrize("at", [3.0, 3.1])
def test_a_flash_over_the_whole_frame_changes_nothing(at: float) -> None:
    """It comes between two looks, or is gone at the second."""
    before, _, after = shown((SMALL.picture(), at), (borderless(), 0.1), (SMALL.picture(), 3))
    assert set(after) == {before[-1]}


@pytest.mark.parametrize("level", [0, 16, 255])
def test_a_frame_in_which_nothing_can_be_seen_keeps_the_crop(level: int) -> None:
    before, during, after = shown((SMALL.picture(), 3), (np.full((*FRAME_HW, 3), level, np.uint8), 5), (SMALL.picture(), 2))
    assert set(during) == set(after) == {before[-1]}


@pytest.mark.parametrize("light", [0.5, 0.2, 0.08, 0.03])
def test_a_scene_that_gets_dark_does_not_shrink_the_crop(light: float) -> None:
    before, during = shown((LARGE.picture(), 3), (replace(LARGE, light=light).picture(), 5))
    assert all(cut_off(box, before[-1]) <= 0.02 for box in during)


@pytest.mark.parametrize("side", ["left", "top"])
def test_a_half_in_the_dark_does_not_shrink_the_crop(side: str) -> None:
    before, during = shown((LARGE.picture(), 3), (half_dark(LARGE, side), 5))
    assert set(during) == {before[-1]}
    assert set(shown((half_dark(LARGE, side), 5))[0]) == {WHOLE}


def test_one_look_that_sees_more_in_the_dark_is_doubt_enough() -> None:
    """Three looks with a small outline, one without outline that reaches further, and another small one."""
    assert {box for boxes in shown((SMALL.picture(), 1.2), (half_dark(LARGE, "left"), 0.5), (SMALL.picture(), 1.2)) for box in boxes} == {
        WHOLE
    }


def test_of_looks_that_disagree_none_shrinks_the_crop() -> None:
    video = Video()
    boxes = [box for index in range(12) for box in video.show((SMALL, LARGE)[index % 2].picture(), 0.5)]
    assert set(boxes) == {WHOLE}


def test_another_size_of_the_frames_begins_anew() -> None:
    video = Video()
    video.show(SMALL.picture(), 3)
    larger = replace(SMALL, frame_hw=(720, 1280))
    boxes = video.show(larger.picture(), 3)
    assert boxes[0] == (0, 0, 1280, 720)
    assert iou(boxes[-1], larger.box) >= 0.93


def test_a_step_back_in_time_begins_anew() -> None:
    """Another file of the same source."""
    video = Video()
    video.show(SMALL.picture(), 3)
    video.frames = 0
    boxes = video.show(SMALL.picture(), 3)
    assert boxes[0] == WHOLE != boxes[-1]


def test_a_picture_that_stands_alone_is_judged_by_itself_and_ends_what_was_known() -> None:
    video = Video()
    video.show(SMALL.picture(), 3)
    for scope in (SMALL, LARGE, ELSEWHERE):
        assert iou(video.area.of(scope.picture(), None), scope.box) >= 0.93
    assert video.area.of(borderless(), None) == WHOLE
    assert video.area.of(np.zeros((*FRAME_HW, 3), np.uint8), None) == WHOLE
    assert video.show(SMALL.picture(), 0.1) == [WHOLE]
