from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qtseg_edge.calibration.burnt_in import longest_run
from qtseg_edge.calibration.look import FAULTS, content_area, look_at, noise_or_flat
from tests.calibration.pictures import in_circle, labelled, noisy, scene

SIZE = (288, 352)


def faulty(fault: str) -> NDArray[np.uint8]:
    frame = scene(1, SIZE)
    return {
        "flat": np.full_like(frame, 90),
        "noise": np.random.default_rng(0).integers(0, 256, frame.shape, np.uint8),
        "dark": frame // 12,
        "overexposed": np.where(np.arange(SIZE[1])[None, :, None] < 300, 255, frame).astype(np.uint8),
        "blurred": cv2.GaussianBlur(frame, (0, 0), 9),
    }[fault]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_teaches_nothing_is_named(fault: str) -> None:
    assert look_at(faulty(fault)).fault == fault


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("flat", "noise")])
def test_a_black_border_hides_no_fault(fault: str) -> None:
    assert look_at(in_circle(faulty(fault))).fault == fault


def test_pictures_with_and_without_a_border_have_no_fault() -> None:
    assert [look_at(frame).fault for frame in (scene(1, SIZE), in_circle(scene(1, SIZE)))] == [None, None]


def test_brightness_and_colour_are_those_of_the_content() -> None:
    plain, framed = look_at(scene(1, SIZE)), look_at(in_circle(scene(1, SIZE)))
    assert framed.brightness == pytest.approx(plain.brightness, abs=0.05)
    assert framed.saturation == pytest.approx(plain.saturation, abs=0.05)


def test_content_is_the_circle_without_the_writing_beside_it() -> None:
    frame = in_circle(scene(1, SIZE))
    assert np.array_equal(content_area(labelled(frame, "12/03/2013", (2, 20))), content_area(frame))
    assert content_area(frame).mean() == pytest.approx((frame.max(axis=2) > 0).mean(), abs=0.01)


def test_bright_cells_on_black_are_no_field_of_view() -> None:
    frame = np.zeros((*SIZE, 3), np.uint8)
    for x in (60, 150, 280):
        cv2.circle(frame, (x, 120), 14, (180, 180, 180), cv2.FILLED)
    assert content_area(frame).all()


@pytest.mark.parametrize(
    ("text", "at_xy"), [("12/03/2013", (4, 20)), ("CVP:5", (4, 250)), ("Name: 1234567", (120, 150))], ids=["border", "corner", "content"]
)
def test_writing_is_seen_in_the_border_and_on_the_content(text: str, at_xy: tuple[int, int]) -> None:
    frame = in_circle(scene(1, SIZE))
    assert not look_at(frame).burnt_in
    assert look_at(labelled(frame, text, at_xy)).burnt_in


def test_writing_is_seen_in_a_large_frame() -> None:
    frame = in_circle(scene(1, (1080, 1280)))
    cv2.putText(frame, "12/03/2013 10:22", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    assert look_at(frame).burnt_in


def test_a_green_box_is_seen_and_green_tissue_is_not() -> None:
    frame = in_circle(scene(1, SIZE))
    stained = frame.copy()
    cv2.ellipse(stained, (170, 140), (50, 25), 30, 0, 360, (20, 160, 120), cv2.FILLED)
    assert not look_at(stained).burnt_in
    cv2.rectangle(frame, (4, 210), (70, 280), (10, 180, 130), cv2.FILLED)
    assert look_at(frame).burnt_in


def test_scattered_glitter_is_no_writing() -> None:
    frame, random = scene(1, SIZE), np.random.default_rng(4)
    for x, y in random.integers(10, 270, (12, 2)):
        cv2.ellipse(frame, (int(x), int(y)), (int(x) % 4 + 2, 2), int(y) % 180, 0, 360, (255, 255, 255), cv2.FILLED)
    assert not look_at(frame).burnt_in


def test_the_same_scene_a_moment_later_is_near_and_another_is_far() -> None:
    first, later, other = (look_at(frame).feature for frame in (scene(1), noisy(scene(1), 5), scene(2)))
    assert np.linalg.norm(first - later) < 0.01 < 0.05 < np.linalg.norm(first - other)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(16, 16), (40, 64), (97, 33)]), st.sampled_from([4, 60, 256]))
def test_random_values_are_noise_at_any_size_and_strength(seed: int, size_hw: tuple[int, int], levels: int) -> None:
    random = np.random.default_rng(seed).integers(0, levels, (*size_hw, 1), np.uint8)
    assert noise_or_flat(random.repeat(3, axis=2)) == ("noise" if random.std() >= 2 else "flat")


@given(st.lists(st.booleans(), max_size=20))
def test_longest_run_counts_what_a_loop_counts(flags: list[bool]) -> None:
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    assert longest_run(np.array(flags, bool)) == longest
