from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qtseg_edge
from qtseg_edge.transforms import Letterbox, Uint8

FRAMES = Path(qtseg_edge.__file__).parent / "assets" / "frames"
frame_side = st.integers(1, 4000)
small_side = st.integers(1, 200)
model_side = st.integers(1, 64).map(lambda k: 32 * k)
small_model_side = st.integers(1, 5).map(lambda k: 32 * k)
seed = st.integers(0, 2**31)


def random_image(seed: int, *shape: int, levels: int = 256) -> Uint8:
    return np.random.RandomState(seed).randint(0, levels, shape, np.uint8)


@given(h=frame_side, w=frame_side, height=model_side, width=model_side)
def test_content_fits_touches_one_side_and_keeps_the_aspect(h: int, w: int, height: int, width: int) -> None:
    content_h, content_w = Letterbox((h, w), (height, width)).content_hw
    assert 1 <= content_h <= height and 1 <= content_w <= width
    assert content_h == height or content_w == width
    if content_h == height:
        assert content_w == max(1, int(w * height / h)) or content_w == width
    else:
        assert content_h == max(1, int(h * width / w))
    scale = min(height / h, width / w)  # the exact, uncut size is less than one pixel away
    assert abs(content_h - h * scale) < 1 and abs(content_w - w * scale) < 1


@given(h=frame_side, w=frame_side, side=model_side)
def test_square_content_follows_the_authors_rule(h: int, w: int, side: int) -> None:
    longest = max(h, w)
    expected = tuple(side if s == longest else max(1, int(s * side / longest)) for s in (h, w))
    assert Letterbox((h, w), (side, side)).content_hw == expected


@pytest.mark.parametrize(
    ("source_hw", "size_hw", "content_hw"),
    [
        ((720, 1280), (352, 352), (198, 352)),
        ((1280, 720), (352, 352), (352, 198)),
        ((528, 622), (512, 512), (434, 512)),
        ((720, 1280), (224, 384), (216, 384)),
        ((480, 640), (224, 384), (224, 298)),
        ((1080, 1920), (288, 512), (288, 512)),
        ((1, 4000), (64, 64), (1, 64)),
        ((4000, 1), (64, 96), (64, 1)),
    ],
)
def test_content_of_known_sizes(source_hw: tuple[int, int], size_hw: tuple[int, int], content_hw: tuple[int, int]) -> None:
    assert Letterbox(source_hw, size_hw).content_hw == content_hw


@given(h=small_side, w=small_side, height=small_model_side, width=small_model_side, seed=seed)
def test_frame_is_at_the_top_left_and_padded_with_zeros(h: int, w: int, height: int, width: int, seed: int) -> None:
    letterbox = Letterbox((h, w), (height, width))
    content_h, content_w = letterbox.content_hw
    frame = random_image(seed, h, w, 3) // 2 + 100
    out = letterbox.frame(frame)
    assert out.shape == (height, width, 3) and out.dtype == np.uint8
    assert not out[content_h:].any() and not out[:, content_w:].any()
    content = out[:content_h, :content_w]
    assert frame.min() <= content.min() and content.max() <= frame.max()


@pytest.mark.parametrize("source_hw", [(1, 4000), (4000, 1), (2160, 3840), (1, 1)], ids=str)
def test_extreme_frames_go_there_and_back(source_hw: tuple[int, int]) -> None:
    letterbox = Letterbox(source_hw, (64, 96))
    assert letterbox.frame(np.full((*source_hw, 3), 200, np.uint8)).max() == 200
    mask = letterbox.mask(np.ones(source_hw, np.uint8))
    back = letterbox.labels_to_source(mask)
    assert back.shape == source_hw and (back == 1).all()


def test_shrinking_averages_the_area() -> None:
    frame = random_image(1, 256, 512, 3)
    out = Letterbox((256, 512), (64, 128)).frame(frame)
    mean = frame.reshape(64, 4, 128, 4, 3).mean(axis=(1, 3))
    assert np.abs(out - mean).max() <= 0.5


def test_a_frame_of_the_models_size_passes_unchanged() -> None:
    frame = random_image(2, 64, 96, 3)
    np.testing.assert_array_equal(Letterbox((64, 96), (64, 96)).frame(frame), frame)


def test_channels_are_kept_apart() -> None:
    frame = np.zeros((50, 80, 3), np.uint8)
    frame[..., 0], frame[..., 2] = 10, 250
    content = Letterbox((50, 80), (64, 64)).frame(frame)[:40]
    assert (content == (10, 0, 250)).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_frames_of_any_channels_keep_their_axis(channels: int) -> None:
    assert Letterbox((50, 80), (64, 64)).frame(random_image(3, 50, 80, channels)).shape == (64, 64, channels)


def test_views_that_are_not_contiguous_give_the_same() -> None:
    frame, letterbox = random_image(4, 100, 160, 3), Letterbox((50, 80), (64, 64))
    view = frame[::-2, ::2, ::-1]  # as a flipped, subsampled BGR picture
    np.testing.assert_array_equal(letterbox.frame(view), letterbox.frame(np.ascontiguousarray(view)))


def test_a_reused_buffer_is_filled_and_returned() -> None:
    letterbox, out = Letterbox((50, 80), (64, 64)), np.zeros((64, 64, 3), np.uint8)
    for seed in (5, 6):
        frame = random_image(seed, 50, 80, 3)
        assert letterbox.frame(frame, out=out) is out
        np.testing.assert_array_equal(out, letterbox.frame(frame))


@given(h=small_side, w=small_side, height=small_model_side, width=small_model_side, classes=st.integers(1, 6), seed=seed)
def test_labels_are_never_invented(h: int, w: int, height: int, width: int, classes: int, seed: int) -> None:
    letterbox = Letterbox((h, w), (height, width))
    labels = random_image(seed, h, w, levels=classes) + 3  # padding, 0, is no label here
    content_h, content_w = letterbox.content_hw
    mask = letterbox.mask(labels)
    assert mask.shape == (height, width) and mask.dtype == np.uint8
    assert not mask[content_h:].any() and not mask[:, content_w:].any()
    assert set(np.unique(mask[:content_h, :content_w])) <= set(np.unique(labels))
    back = letterbox.labels_to_source(mask)
    assert back.shape == (h, w) and back.dtype == np.uint8
    assert set(np.unique(back)) <= set(np.unique(labels))


@given(h=st.integers(1, 12), w=st.integers(1, 12), factor=st.sampled_from([1, 2, 4, 8]), seed=seed)
def test_labels_enlarged_by_a_whole_factor_come_back_exactly(h: int, w: int, factor: int, seed: int) -> None:
    labels = random_image(seed, 32 * h // factor, 32 * w // factor, levels=5)
    letterbox = Letterbox(labels.shape, (labels.shape[0] * factor, labels.shape[1] * factor))
    np.testing.assert_array_equal(letterbox.labels_to_source(letterbox.mask(labels)), labels)


@given(h=small_side, w=small_side, height=small_model_side, width=small_model_side, level=st.integers(1, 255))
def test_the_padding_never_bleeds_into_results(h: int, w: int, height: int, width: int, level: int) -> None:
    letterbox = Letterbox((h, w), (height, width))
    content_h, content_w = letterbox.content_hw
    result = np.zeros((height, width), np.uint8)
    result[:content_h, :content_w] = level
    for back in (letterbox.levels_to_source(result), letterbox.labels_to_source(result)):
        assert back.shape == (h, w) and back.dtype == np.uint8
        assert (back == level).all()


def test_levels_are_interpolated_and_labels_are_not() -> None:
    letterbox, edge = Letterbox((128, 256), (64, 128)), np.zeros((64, 128), np.uint8)
    edge[:, 64:] = 200
    assert set(np.unique(letterbox.labels_to_source(edge))) == {0, 200}
    between = letterbox.levels_to_source(edge)
    assert ((between > 0) & (between < 200)).any()
    np.testing.assert_array_equal(between[:, :120], 0)
    np.testing.assert_array_equal(between[:, 136:], 200)


@pytest.mark.parametrize("source_hw", [(480, 640), (720, 1280), (300, 200)], ids=str)
def test_a_mask_lands_where_its_object_was(source_hw: tuple[int, int]) -> None:
    """Frame and mask of the same disc, and the mask carried back, overlap but for the edge's pixels."""
    h, w = source_hw
    y, x = np.mgrid[:h, :w]
    disc = (np.hypot(y - 0.6 * h, x - 0.4 * w) < 0.2 * min(h, w)).astype(np.uint8)
    letterbox = Letterbox(source_hw, (224, 384))
    seen = letterbox.frame(np.repeat(disc[..., None] * 255, 3, axis=2))[..., 0] > 127
    mask = letterbox.mask(disc) > 0
    assert (seen & mask).sum() > 0.93 * (seen | mask).sum()
    back = letterbox.labels_to_source(letterbox.mask(disc)) > 0
    assert (back & (disc > 0)).sum() > 0.93 * (back | (disc > 0)).sum()


@pytest.mark.parametrize("source_hw", [(720, 1280), (1080, 1920), (2160, 3840), (721, 1281)], ids=str)
def test_a_large_frame_is_averaged_over_the_area_of_each_pixel(source_hw: tuple[int, int]) -> None:
    """Against exact sums over broken pixels; halving first moves steep edges by a few levels."""
    picture = cv2.imread(str(sorted(FRAMES.glob("*.jpg"))[0]), cv2.IMREAD_GRAYSCALE)
    frame = cv2.resize(picture, (source_hw[1], source_hw[0]), interpolation=cv2.INTER_CUBIC)
    letterbox = Letterbox(source_hw, (352, 352))
    content_h, content_w = letterbox.content_hw
    sums = np.pad(np.cumsum(np.cumsum(frame.astype(float), axis=0), axis=1), ((1, 0), (1, 0)))
    rows, columns = (np.linspace(0, side, count + 1) for side, count in zip(source_hw, (content_h, content_w), strict=True))
    corners = np.stack([np.interp(columns, np.arange(source_hw[1] + 1), line) for line in sums])
    corners = np.stack([np.interp(rows, np.arange(source_hw[0] + 1), line) for line in corners.T]).T
    area = np.diff(rows)[:, None] * np.diff(columns)[None]
    exact = np.diff(np.diff(corners, axis=0), axis=1) / area
    off = np.abs(letterbox.frame(frame)[:content_h, :content_w] - exact)
    assert off.mean() < 0.6 and off.max() < 8
