"""The endoscope's picture is found where it is, and nothing is taken for a border that may be a dark part of the scene."""

from __future__ import annotations

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qtseg_edge.runtime.roi.content_area import Content, find_content
from tests.runtime.scopes import FRAME_HW, FRAMES, Scope, cut_off, iou, tissue

Uint8 = NDArray[np.uint8]
WHOLE = (0, 0, FRAME_HW[1], FRAME_HW[0])
scopes = st.builds(
    Scope,
    shape=st.sampled_from(("circle", "octagon", "rounded")),
    centre=st.tuples(st.floats(0.75, 1.05), st.floats(0.42, 0.58)),
    radius=st.floats(0.28, 0.56),
    wide=st.floats(0.9, 1.2),
    level=st.sampled_from((0, 4, 16, 20)),
    noise=st.floats(0, 6),
    light=st.floats(0.5, 1.2),
    text=st.integers(0, 5),
    inset=st.booleans(),
    quality=st.integers(50, 95),
    tissue=st.integers(0, len(FRAMES) - 1),
)


def found(rgb: Uint8) -> Content:
    content = find_content(rgb)
    assert content is not None
    return content


@given(scopes)
@settings(max_examples=80)
def test_a_crop_to_the_picture_is_close_and_never_cuts_it(scope: Scope) -> None:
    content = found(scope.picture())
    if content.is_outlined:
        assert cut_off(content.box, scope.box) <= 0.02
        assert iou(content.box, scope.box) >= 0.9


def test_typically_the_overlap_is_above_95_percent() -> None:
    each = [
        Scope(shape, (x, y), radius, wide, level, tissue=number)
        for shape in ("circle", "octagon", "rounded")
        for number, (x, y) in enumerate(((0.9, 0.5), (0.8, 0.45), (1.0, 0.52)))
        for radius, wide, level in ((0.3, 1.0, 0), (0.45, 1.1, 16), (0.55, 1.0, 4))
    ]
    contents = [found(scope.picture()) for scope in each]
    assert sum(content.is_outlined for content in contents) >= 0.85 * len(contents)  # one of the six tissues has a dark side
    overlaps = [iou(content.box, scope.box) for content, scope in zip(contents, each, strict=True) if content.is_outlined]
    assert np.median(overlaps) >= 0.95


@pytest.mark.parametrize("frame_hw", [(240, 320), (576, 720), (720, 1280), (1080, 1920), (722, 1283)])
def test_frames_of_any_size(frame_hw: tuple[int, int]) -> None:
    scope = Scope("octagon", (frame_hw[1] / frame_hw[0] / 2, 0.5), 0.46, frame_hw=frame_hw)
    content = found(scope.picture())
    assert content.is_outlined
    assert iou(content.box, scope.box) >= 0.94 and cut_off(content.box, scope.box) <= 0.005


def test_a_circle_cut_off_at_top_and_bottom_keeps_the_frames_height() -> None:
    scope = Scope(radius=0.75)
    content = found(scope.picture())
    assert content.is_outlined
    assert (content.box[1], content.box[3]) == (0, FRAME_HW[0])
    assert iou(content.box, scope.box) >= 0.95


@pytest.mark.parametrize("text", [0, 5])
@pytest.mark.parametrize("inset", [False, True])
def test_text_and_a_small_picture_beside_it_are_left_out(text: int, inset: bool) -> None:
    alone = found(Scope(text=0).picture())
    assert found(Scope(text=text, inset=inset).picture()) == alone


def test_text_across_the_outline_is_left_out() -> None:
    frame = Scope(text=0).picture()
    alone = found(frame)
    written = frame.copy()
    cv2.putText(written, "Name: ABCDEFGH IJKL", (20, 180), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (235, 235, 235), 1, cv2.LINE_AA)
    across = found(written)
    assert (written != frame)[:, 180:300].any()
    assert across.is_outlined and iou(across.box, alone.box) >= 0.98


def test_a_second_picture_of_like_size_counts_as_content() -> None:
    scope = Scope("rounded", (0.45, 0.5), 0.38, text=0)
    frame = scope.picture() | replace(scope, centre=(1.33, 0.5), radius=0.25, tissue=1).picture()
    box = found(frame).box
    assert box[0] <= 0.07 * FRAME_HW[0] + 2 and box[0] + box[2] >= 1.58 * FRAME_HW[0] - 2


@pytest.mark.parametrize("corner", [0.2, 0.3])
def test_a_corner_covered_in_black_is_no_doubt(corner: float) -> None:
    """As the box that shows the scope's position is, where it was blacked out."""
    scope = Scope("octagon")
    x, y, w, h = scope.box
    frame = scope.picture()
    frame[round(y + (1 - corner) * h) : y + h, x : round(x + corner * w)] = 0
    content = found(frame)
    assert content.is_outlined and iou(content.box, scope.box) >= 0.95


@pytest.mark.parametrize("number", range(len(FRAMES)))
@pytest.mark.parametrize("light", [1.0, 0.6])
def test_a_picture_without_border_is_whole(number: int, light: float) -> None:
    frame = cv2.resize((tissue(number) * light).astype(np.uint8), FRAME_HW[::-1], interpolation=cv2.INTER_AREA)
    assert found(np.asarray(frame, np.uint8)) == Content(WHOLE, True)


@given(st.integers(0, 5), st.floats(0.15, 0.85), st.floats(0.2, 0.8), st.floats(0.3, 1.0), st.floats(0.2, 1.5), st.floats(0, 4))
@settings(max_examples=80)
def test_a_scene_that_fades_into_the_dark_has_no_outline(number: int, x: float, y: float, reach: float, light: float, noise: float) -> None:
    """A lamp that lights only a part of the picture, wherever it points."""
    height, width = FRAME_HW
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(columns - x * width, rows - y * height) / (reach * width)
    scene = cv2.resize(tissue(number), (width, height), interpolation=cv2.INTER_AREA) * (light * np.exp(-((2 * distance) ** 2)))[..., None]
    noisy = scene + np.random.default_rng(number).normal(0, noise, scene.shape)
    content = find_content(np.clip(noisy, 0, 255).astype(np.uint8))
    assert content is None or content.box == WHOLE or not content.is_outlined


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
@pytest.mark.parametrize("shape", ["circle", "octagon", "rounded"])
def test_a_picture_whose_side_is_in_the_dark_has_no_outline(shape: str, side: str) -> None:
    """The content must not be taken to end where the light does."""
    scope = Scope(shape)
    _, _, w, h = scope.box
    fading = np.clip(np.linspace(-0.5, 1.5, w if side in ("left", "right") else h), 0, 1)
    fading = fading if side in ("left", "top") else fading[::-1]
    shade = fading[None, :, None] if side in ("left", "right") else fading[:, None, None]
    shown = cv2.resize(tissue(0), (w, h), interpolation=cv2.INTER_AREA) * shade
    content = find_content(scope.picture(shown.astype(np.uint8)))
    assert content is not None and not content.is_outlined


@pytest.mark.parametrize("shape", ["circle", "octagon", "rounded"])
def test_a_dark_lumen_within_the_picture_is_content(shape: str) -> None:
    scope = Scope(shape)
    _, _, w, h = scope.box
    shown = cv2.resize(tissue(1), (w, h), interpolation=cv2.INTER_AREA)
    cv2.circle(shown, (w // 2, h // 2), h // 4, (1, 1, 1), cv2.FILLED)
    content = found(scope.picture(np.asarray(cv2.GaussianBlur(shown, (0, 0), 5), np.uint8)))
    assert content.is_outlined and iou(content.box, scope.box) >= 0.95


@pytest.mark.parametrize("centre", [(1.5, 0.1), (0.3, 0.9)])
def test_a_bright_dome_that_a_corner_of_the_frame_cuts_off_is_no_mask(centre: tuple[float, float]) -> None:
    """A polyp before a black lumen is convex and sharp too."""
    content = find_content(Scope(centre=centre, radius=0.6, text=0).picture())
    assert content is not None and not content.is_outlined


def test_a_lopsided_shape_is_no_mask() -> None:
    frame, inside = Scope("rounded", text=0).picture(), np.zeros(FRAME_HW, np.uint8)
    cv2.fillConvexPoly(inside, np.array([(190, 30), (480, 150), (490, 330), (200, 330)], np.int32), 1)
    content = find_content(frame * inside[..., None])
    assert content is not None and not content.is_outlined


def test_glittering_in_the_dark_is_no_picture() -> None:
    frame = np.zeros((*FRAME_HW, 3), np.uint8)
    for x, y, radius in ((200, 100, 14), (230, 130, 9), (260, 110, 12), (300, 160, 20)):
        cv2.circle(frame, (x, y), radius, (255, 255, 250), cv2.FILLED)
    content = find_content(frame)
    assert content is not None and not content.is_outlined


@pytest.mark.parametrize("colour", [(0, 0, 0), (16, 16, 16), (255, 255, 255), (0, 0, 255), (120, 60, 60)])
@pytest.mark.parametrize("noise", [0, 2])
def test_in_a_frame_of_one_colour_nothing_is_seen(colour: tuple[int, int, int], noise: int) -> None:
    jitter = np.random.default_rng(0).integers(-noise, noise + 1, (*FRAME_HW, 3))
    assert find_content(np.clip(np.array(colour) + jitter, 0, 255).astype(np.uint8)) is None


def test_text_alone_is_nothing() -> None:
    assert find_content(replace(Scope(text=5), light=0.0).picture()) is None


def test_a_bright_panel_around_the_picture_is_content() -> None:
    """Grey may be anything; only black is a border."""
    frame = Scope(level=90, text=0).picture()
    assert found(frame) == Content(WHOLE, True)


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 3))
@settings(max_examples=80)
def test_whatever_the_frame_the_box_lies_within_it(height: int, width: int, kind: int) -> None:
    frame = np.zeros((height, width, 3), np.uint8)
    if kind:
        cv2.circle(frame, (width // 2, height // 2), max(1, kind * min(height, width) // 5), (200, 90, 80), cv2.FILLED)
    content = find_content(frame)
    if content is not None:
        x, y, w, h = content.box
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height


@pytest.mark.parametrize("view", [np.s_[::2, ::2], np.s_[:, ::-1], np.s_[5:350, 7:600], np.s_[:, :, ::-1]], ids=str)
def test_a_frame_that_is_a_view_gives_the_result_of_its_copy(view: tuple[slice, ...]) -> None:
    frame = Scope().picture()[view]
    assert find_content(frame) == find_content(frame.copy())


@pytest.mark.slow
def test_a_look_at_720p_costs_little() -> None:
    """The budget is 1 ms on a quiet machine; here what no disturbance explains."""
    frame = Scope(frame_hw=(720, 1280)).picture()
    times = []
    for _ in range(200):
        started = time.perf_counter()
        find_content(frame)
        times.append(time.perf_counter() - started)
    assert np.percentile(times, 10) < 2e-3
