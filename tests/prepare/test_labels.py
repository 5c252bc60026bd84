from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from qtseg_edge.prepare.labels import RED_AND_GREEN, binary_labels, colour_labels
from tests.prepare.raw import blob, coloured, two_polyps


def jpeg(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


@pytest.mark.parametrize("top", [1, 127, 255])
def test_a_lossless_mask_of_two_levels_is_taken_at_its_word(top: int) -> None:
    labels = binary_labels(blob(0) * np.uint8(top), lossy=False)
    np.testing.assert_array_equal(labels.indices, blob(0))
    assert labels.doubtful == 0


def test_any_colour_and_sixteen_bits_count() -> None:
    np.testing.assert_array_equal(binary_labels(np.dstack([blob(0) * 0, blob(0) * 90, blob(0) * 3]), lossy=False).indices, blob(0))
    np.testing.assert_array_equal(binary_labels(blob(0).astype(np.uint16) * 65535, lossy=False).indices, blob(0))


def test_smoothed_edges_are_cut_in_the_middle_and_counted() -> None:
    ramp = np.array([[0, 20, 63, 64, 127, 128, 191, 192, 240, 255]], np.uint8)
    for levels in (ramp, ramp.astype(np.uint16) * 257):
        labels = binary_labels(levels, lossy=False)
        assert labels.indices.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1, 1]]
        assert labels.doubtful == 4


def test_noise_in_an_empty_jpeg_is_no_foreground() -> None:
    """One level above black would count in a lossless file."""
    noise = np.random.RandomState(1).randint(0, 2, (8, 8), np.uint8)
    assert not binary_labels(noise, lossy=True).indices.any()


@settings(max_examples=40)
@given(st.integers(50, 100), st.integers(0, 7))
def test_jpeg_masks_keep_their_shape(quality: int, seed: int) -> None:
    mask = blob(seed, (40, 56))
    labels = binary_labels(jpeg(mask * np.uint8(255), quality), lossy=True)
    np.testing.assert_array_equal(labels.indices, mask)


@settings(max_examples=40)
@given(st.integers(70, 100), st.integers(0, 30))
def test_noisy_polyp_colours_are_told_apart(quality: int, number: int) -> None:
    """All but a few corner pixels, where JPEG's halved colour is three parts black."""
    indices = two_polyps(number)
    labels = colour_labels(jpeg(coloured(indices), quality), RED_AND_GREEN)
    assert np.count_nonzero(labels.indices != indices) <= 8
    assert labels.doubtful <= 0.02 * indices.size


@settings(max_examples=30)
@given(st.integers(60, 95), st.integers(0, 1000), st.tuples(st.integers(0, 15), st.integers(0, 15)))
def test_inside_of_any_patchwork_the_colour_is_known(quality: int, seed: int, shift: tuple[int, int]) -> None:
    """Chroma is stored at half size, so two pixels beside an edge may mix; further in they may not."""
    patches = np.random.RandomState(seed).randint(0, 3, (4, 5), np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    indices = np.roll(patches, shift, (0, 1))
    inside = np.ones(indices.shape, bool)
    for axis in (0, 1):
        for step in range(-3, 4):
            inside &= np.roll(indices, step, axis) == indices
    found = colour_labels(jpeg(coloured(indices), quality), RED_AND_GREEN).indices
    np.testing.assert_array_equal(found[inside], indices[inside])


@pytest.mark.parametrize(
    ("colour", "index", "doubtful"),
    [
        ((90, 10, 5), 0, False),
        ((170, 60, 50), 1, False),
        ((40, 180, 30), 2, False),
        ((255, 255, 0), 1, True),
        ((0, 0, 255), 0, True),
        ((255, 255, 255), 1, True),
    ],
)
def test_colours_that_are_no_class_are_counted(colour: tuple[int, int, int], index: int, doubtful: bool) -> None:
    labels = colour_labels(np.full((3, 4, 3), colour, np.uint8), RED_AND_GREEN)
    assert (labels.indices == index).all()
    assert labels.doubtful == (12 if doubtful else 0)
