from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from qtseg_edge.data import LabelledImage, image_files, labelled_images, read_binary_mask, read_image, read_labelled_image, read_mask
from qtseg_edge.errors import QtsegError, UsageError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def write(path: Path, pixels: NDArray[np.generic]) -> Path:
    """Colour pixels are given in RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def grey(level: int = 0, size_hw: tuple[int, int] = (8, 12)) -> NDArray[np.uint8]:
    return np.full(size_hw, level, np.uint8)


def striped() -> NDArray[np.uint8]:
    """Four columns each of red, green and blue, 8 by 12."""
    return np.array([RED, GREEN, BLUE], np.uint8).repeat(4, axis=0)[None].repeat(8, axis=0)


# --- folders ------------------------------------------------------------------------------------------------------------------------


def test_pairs_are_found_by_stem_whatever_the_suffix_and_sorted(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.JPG", "c.v2.png"):
        write(tmp_path / "images" / name, grey())
    for name in ("a.png", "b.jpeg", "c.v2.tif", "unused.png"):
        write(tmp_path / "masks" / name, grey())
    (tmp_path / "images" / "notes.txt").write_text("not an image", encoding="utf-8")
    assert labelled_images(tmp_path) == [
        LabelledImage(tmp_path / "images" / "a.JPG", tmp_path / "masks" / "a.png"),
        LabelledImage(tmp_path / "images" / "b.jpg", tmp_path / "masks" / "b.jpeg"),
        LabelledImage(tmp_path / "images" / "c.v2.png", tmp_path / "masks" / "c.v2.tif"),
    ]


def test_images_without_a_mask_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write(tmp_path / "images" / name, grey())
    write(tmp_path / "masks" / "b.png", grey())
    with pytest.raises(UsageError, match=r"masks: no mask for 2 of 3 images, first a\.jpg"):
        labelled_images(tmp_path)


@pytest.mark.parametrize("present", [[], ["images"], ["masks"]], ids=str)
def test_a_missing_folder_is_named(tmp_path: Path, present: list[str]) -> None:
    for folder in present:
        write(tmp_path / folder / "a.png", grey())
    missing = "masks" if "images" in present else "images"
    with pytest.raises(UsageError, match=f"{missing}: no such folder"):
        labelled_images(tmp_path)


def test_a_folder_without_images_is_refused_with_the_suffixes_it_may_have(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(UsageError, match=r"no images \(\.bmp, \.jpeg, \.jpg"):
        image_files(tmp_path)


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        image_files(write(tmp_path / "a.png", grey()))


# --- images -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
def test_lossless_colours_are_read_exactly_in_rgb(tmp_path: Path, suffix: str) -> None:
    np.testing.assert_array_equal(read_image(write(tmp_path / f"a{suffix}", striped())), striped())


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_colours_are_read_in_rgb(tmp_path: Path, suffix: str) -> None:
    red = np.full((16, 16, 3), RED, np.uint8)
    assert np.abs(read_image(write(tmp_path / f"a{suffix}", red)).astype(int) - red).max() < 12


def test_a_grey_image_becomes_three_equal_channels(tmp_path: Path) -> None:
    image = read_image(write(tmp_path / "a.png", grey(77)))
    assert image.shape == (8, 12, 3) and image.dtype == np.uint8
    assert (image == 77).all()


def test_transparency_is_left_out(tmp_path: Path) -> None:
    rgba = np.concatenate([striped(), grey(128)[..., None]], axis=2)
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.png", rgba)), striped())


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.png", striped().astype(np.uint16) * 257)), striped())


def test_sixteen_bits_are_refused_where_there_is_a_mask(tmp_path: Path) -> None:
    with pytest.raises(QtsegError, match=r"a\.png: wanted 8 bits per channel, got uint16"):
        read_labelled_image(write(tmp_path / "a.png", striped().astype(np.uint16) * 257))


def test_an_image_that_its_exif_tag_turns_is_refused(tmp_path: Path) -> None:
    """A tag that turns nothing is none of our business."""
    jpeg = cv2.imencode(".jpg", np.dstack([np.arange(96, dtype=np.uint8).reshape(8, 12)] * 3))[1].tobytes()
    for orientation in (1, 3):
        tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01" + struct.pack(">HHI", orientation, 0, 0)
        exif = b"Exif\x00\x00" + tiff
        (tmp_path / f"{orientation}.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    assert read_labelled_image(tmp_path / "1.jpg").shape == (8, 12, 3)
    with pytest.raises(QtsegError, match=r"3\.jpg: its Exif tag turns it"):
        read_labelled_image(tmp_path / "3.jpg")


def test_a_lossless_mask_of_many_levels_is_refused(tmp_path: Path) -> None:
    soft = np.array([[0, 3, 128, 255]], np.uint8)
    with pytest.raises(QtsegError, match=r"a\.png: wanted a mask of two levels, got 4 from 0 to 255"):
        read_mask(write(tmp_path / "a.png", soft), 2)


def test_class_indices_are_read_as_they_are(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "a.png", indices), 3), indices)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "b.png", np.dstack([indices] * 3)), 3), indices)


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("a.png", np.array([[0, 3]], np.uint8), "wanted class indices below 3, got 3"),
        ("a.jpg", np.array([[0, 1]], np.uint8), "JPEG does not keep class indices"),
        ("a.png", np.array([[[0, 0, 1]]], np.uint8), "got colours"),
    ],
)
def test_what_holds_no_class_indices_is_refused(tmp_path: Path, name: str, pixels: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(QtsegError, match=message):
        read_mask(write(tmp_path / name, pixels), 3)


def test_a_stem_used_twice_is_refused(tmp_path: Path) -> None:
    for name in ("images/a.png", "images/a.jpg", "masks/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, striped())
    with pytest.raises(UsageError, match=r"a\.jpg and a\.png have the same stem"):
        labelled_images(tmp_path)


def test_names_outside_ascii_are_read(tmp_path: Path) -> None:
    assert read_image(write(tmp_path / "ảnh ö.png", grey())).shape == (8, 12, 3)


def oversized_png() -> bytes:
    """A valid header that promises 100,000 x 100,000 pixels, and none of them."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


@pytest.mark.parametrize(
    "content", [b"", b"text", bytes(100), b"\x89PNG\r\n\x1a\n", oversized_png()], ids=["empty", "text", "zeros", "cut", "oversized"]
)
@pytest.mark.parametrize("read", [read_image, read_binary_mask])
def test_a_file_that_is_no_image_is_named_with_its_size(tmp_path: Path, read: Callable[[Path], object], content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(QtsegError, match=rf"a\.png: wanted an image, but it does not decode \({len(content)} bytes\)"):
        read(tmp_path / "a.png")


def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(QtsegError, match=r"a\.png: cannot be read \(No such file"):
        read_image(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(QtsegError, match=r"b\.png: cannot be read \(Is a directory\)"):
        read_binary_mask(tmp_path / "b.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_image_is_refused(tmp_path: Path, suffix: str) -> None:
    """Otherwise half of a frame would be trained on, or scored, as grey."""
    noise = np.random.RandomState(11).randint(0, 256, (64, 64, 3), np.uint8)
    path = write(tmp_path / f"a{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(QtsegError, match=rf"a\{suffix}"):
        read_image(path)


# --- masks --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 127, 128, 255])
def test_a_lossless_mask_counts_everything_above_zero(tmp_path: Path, level: int) -> None:
    pixels = grey()
    pixels[2:4, 3:6] = level
    mask = read_binary_mask(write(tmp_path / "a.png", pixels))
    assert mask.shape == (8, 12) and mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, pixels > 0)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG"])
def test_a_jpeg_mask_counts_what_is_above_127(tmp_path: Path, suffix: str) -> None:
    pixels = grey(0, (32, 32))
    pixels[:, 16:24], pixels[:, 24:] = 100, 255
    mask = read_binary_mask(write(tmp_path / f"a{suffix}", pixels))
    assert set(np.unique(mask)) == {0, 1}
    np.testing.assert_array_equal(mask, pixels > 127)


@pytest.mark.parametrize("colour", [RED, GREEN, BLUE], ids=["red", "green", "blue"])
def test_a_coloured_mask_counts_any_colour(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[2:4] = colour
    np.testing.assert_array_equal(read_binary_mask(write(tmp_path / "a.png", pixels)), pixels.any(axis=2))


def test_a_faint_coloured_mask_counts_as_well(tmp_path: Path) -> None:
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[2:4] = (0, 0, 1)
    np.testing.assert_array_equal(read_binary_mask(write(tmp_path / "a.png", pixels)), pixels.any(axis=2))


@pytest.mark.parametrize("level", [1, 255, 256, 65535])
def test_a_sixteen_bit_mask_counts_everything_above_zero(tmp_path: Path, level: int) -> None:
    pixels = np.zeros((8, 12), np.uint16)
    pixels[2:4] = level
    np.testing.assert_array_equal(read_binary_mask(write(tmp_path / "a.png", pixels)), pixels > 0)


def test_an_empty_mask_stays_empty(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg"):
        assert not read_binary_mask(write(tmp_path / f"a{suffix}", grey())).any()
