from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from qtseg_edge.errors import UsageError
from qtseg_edge.runtime.overlay import Overlay
from tests.runtime.stand_ins import COLOURS, result_of

Uint8 = NDArray[np.uint8]
GREEN, ORANGE = COLOURS[1], COLOURS[2]
TOO_LONG = "a status that no frame here has room for, so that none is drawn " * 4


def tissue(size_hw: tuple[int, int], seed: int = 0) -> Uint8:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def discs(size_hw: tuple[int, int] = (200, 300)) -> Uint8:
    """Class 1 with a hole, class 2, and a part that the frame's edge cuts."""
    mask = np.zeros(size_hw, np.uint8)
    cv2.circle(mask, (80, 60), 40, 1, -1)
    cv2.circle(mask, (80, 60), 15, 0, -1)
    cv2.circle(mask, (200, 100), 30, 2, -1)
    mask[:20, 250:] = 1
    return mask


def outline_of(mask: Uint8, reach: int) -> NDArray[np.bool_]:
    """Everything within `reach` pixels of where the class changes."""
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near = np.zeros(mask.shape, bool)
    for class_index in np.unique(mask[mask > 0]):
        one = (mask == class_index).astype(np.uint8)
        outer = cv2.dilate(one, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        inner = cv2.erode(one, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        near |= (outer > 0) & (inner == 0)
    return near


def assert_near(pixels: Uint8, colour: tuple[int, int, int]) -> None:
    """Smooth lines let up to a twelfth of what is below show through."""
    assert np.abs(pixels.astype(np.int16) - colour).max() <= 128 / 12 + 1


def mixed(rgb: Uint8, mask: Uint8, alpha: float) -> NDArray[np.float64]:
    """The tint by its formula."""
    wanted = rgb.astype(np.float64)
    for class_index, colour in enumerate(COLOURS[1:], 1):
        inside = mask == class_index
        wanted[inside] = (1 - alpha) * wanted[inside] + alpha * np.array(colour)
    return wanted


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.4, 0.73, 1.0])
def test_inside_is_tinted_exactly_and_outside_is_untouched(alpha: float) -> None:
    rgb, mask = tissue((200, 300)), discs()
    drawn = Overlay(COLOURS, alpha).draw(rgb, mask, TOO_LONG)
    clear = ~outline_of(mask, 2)
    assert np.array_equal(drawn[clear & (mask == 0)], rgb[clear & (mask == 0)])
    inside = clear & (mask > 0)
    assert inside.sum() > 4000
    assert np.abs(drawn[inside] - mixed(rgb, mask, alpha)[inside]).max() <= 0.5001


def test_opacity_zero_leaves_the_inside_as_it_was() -> None:
    rgb, mask = tissue((200, 300)), discs()
    inside = ~outline_of(mask, 2) & (mask > 0)
    assert np.array_equal(Overlay(COLOURS, 0.0).draw(rgb, mask, TOO_LONG)[inside], rgb[inside])


def test_opacity_one_leaves_only_the_colour() -> None:
    mask = discs()
    drawn = Overlay(COLOURS, 1.0).draw(tissue((200, 300)), mask, TOO_LONG)
    assert np.all(drawn[(mask == 1) & ~outline_of(mask, 2)] == GREEN)
    assert np.all(drawn[(mask == 2) & ~outline_of(mask, 2)] == ORANGE)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_the_outline_is_opaque_in_the_colour_of_its_class(alpha: float) -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[30:70, 30:70] = 1
    drawn = Overlay(COLOURS, alpha).draw(np.full((100, 100, 3), 128, np.uint8), mask, TOO_LONG)
    assert_near(drawn[30, 32:68], GREEN)
    assert_near(drawn[32:68, 69], GREEN)


def test_the_outline_of_a_hole_is_drawn_too() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[10:90, 10:90] = 1
    mask[40:60, 40:60] = 0
    drawn = Overlay(COLOURS, 0.0).draw(np.full((100, 100, 3), 128, np.uint8), mask, TOO_LONG)
    assert np.all(drawn[50, 50] == 128)
    assert_near(drawn[39, 45:55], GREEN)


def test_the_frame_that_was_given_is_not_drawn_on() -> None:
    rgb = tissue((200, 300))
    before = rgb.copy()
    drawn = Overlay(COLOURS, 0.4).draw(rgb, discs(), "status")
    assert np.array_equal(rgb, before)
    assert not np.shares_memory(drawn, rgb)


def test_nothing_found_changes_nothing_but_the_status() -> None:
    rgb = tissue((200, 300))
    drawn = Overlay(COLOURS, 0.4).draw(rgb, np.zeros((200, 300), np.uint8), "1.00 s  polyp 0.0%")
    changed = np.argwhere((drawn != rgb).any(axis=-1))
    assert len(changed) > 500
    top, left = changed.min(axis=0)
    assert top > 150
    assert left == 0


def test_the_status_stands_at_the_lower_left_on_a_darker_plate() -> None:
    rgb = np.full((240, 320, 3), 90, np.uint8)
    drawn = Overlay(COLOURS, 0.4).draw(rgb, np.zeros((240, 320), np.uint8), "polyp 1.5%")
    plate = (drawn != rgb).any(axis=-1)
    ys, xs = plate.nonzero()
    assert (xs.min(), ys.max()) == (0, 239)
    block = drawn[ys.min() :, : xs.max() + 1]
    assert np.median(block) == 30
    assert block.max() > 200


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 3), (8, 8), (1, 200), (200, 1), (16, 640)])
@pytest.mark.parametrize("filled", [0, 1, 2])
def test_tiny_frames_are_drawn_without_a_status(size_hw: tuple[int, int], filled: int) -> None:
    rgb = tissue(size_hw)
    drawn = Overlay(COLOURS, 0.4).draw(rgb, np.full(size_hw, filled, np.uint8), "a status that does not fit")
    assert drawn.shape == rgb.shape
    assert np.array_equal(drawn, rgb) == (filled == 0)


@given(arrays(np.uint8, (24, 32), elements=st.integers(0, 2)), st.sampled_from([0.0, 0.4, 1.0]))
@settings(max_examples=60)
def test_pixels_far_from_the_mask_never_change(mask: Uint8, alpha: float) -> None:
    mask[:, 16:] = 0
    rgb = tissue((24, 32))
    drawn = Overlay(COLOURS, alpha).draw(rgb, mask, "does not fit here")
    assert np.array_equal(drawn[:, 18:], rgb[:, 18:])


def test_a_mask_that_is_a_view_is_drawn_as_its_copy() -> None:
    rgb, mask = tissue((200, 300)), discs()
    overlay = Overlay(COLOURS, 0.4)
    assert np.array_equal(overlay.draw(rgb, np.asfortranarray(mask), TOO_LONG), overlay.draw(rgb, mask, TOO_LONG))
    assert np.array_equal(
        overlay.draw(rgb[::-1, ::-1], mask[::-1, ::-1], TOO_LONG), overlay.draw(rgb[::-1, ::-1].copy(), mask[::-1, ::-1].copy(), TOO_LONG)
    )


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), float("inf")])
def test_an_opacity_that_is_none_is_refused(alpha: float) -> None:
    with pytest.raises(UsageError, match="alpha: wanted 0 to 1"):
        Overlay(COLOURS, alpha)


def test_a_result_measures_and_draws_once() -> None:
    mask = discs()
    result = result_of(tissue((200, 300)), mask, index=50, classes=3)
    assert result.area == np.count_nonzero(mask)
    assert result.picture is result.picture
    assert result.regions is result.regions
    assert len(result.regions) == 3


def test_the_status_names_the_class_and_the_notice() -> None:
    """Drawn by hand with the same text, the picture is the same."""
    mask = np.zeros((240, 640), np.uint8)
    mask[:24, :320] = 1  # 5 %
    rgb = tissue((240, 640))
    result = result_of(rgb, mask, index=50)
    wanted = Overlay(COLOURS[:2], 0.4).draw(rgb, mask, "   2.00 s  polyp 5.0%  0 ms  research use only")
    assert np.array_equal(result.picture, wanted)
