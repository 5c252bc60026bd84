from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from qtseg_edge.errors import MissingError, QtsegError
from qtseg_edge.prepare.pictures import image_pixels, kept_as_it_is, mask_pixels, png_bytes, with_true_colours
from tests.prepare.raw import blob, grey_tagged_lzw_tiff, grey_tagged_tiff, picture, save, white

ROOT = Path(__file__).parents[2]


def test_opencv_believes_the_wrong_tag() -> None:
    """The reason for `with_true_colours`; Pillow refuses these files."""
    decoded = cv2.imdecode(np.frombuffer(grey_tagged_tiff(picture(0)), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded, picture(0)[..., :1].repeat(3, axis=2))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1, 2])
def test_three_samples_are_colours_whatever_the_tag_says(order: str, photometric: int) -> None:
    data = grey_tagged_tiff(picture(0), order, photometric)
    np.testing.assert_array_equal(image_pixels(Path("1.tif"), data), picture(0))


def test_a_compressed_tiff_gets_its_colours_back() -> None:
    np.testing.assert_array_equal(image_pixels(Path("1.tif"), grey_tagged_lzw_tiff(picture(0))), picture(0))


def test_grey_tiffs_and_other_files_are_not_touched(tmp_path: Path) -> None:
    for path in (save(tmp_path / "a.tif", blob(0)), save(tmp_path / "a.png", picture(0)), save(tmp_path / "b.tif", picture(0))):
        assert with_true_colours(path.read_bytes()) == path.read_bytes()


@pytest.mark.parametrize("length", [0, 3, 4, 8, 12, 60])
def test_a_tiff_cut_short_is_refused(length: int) -> None:
    with pytest.raises(QtsegError, match=rf"1\.tif: wanted an image, but it does not decode \({length} bytes\)"):
        image_pixels(Path("1.tif"), grey_tagged_tiff(picture(0))[:length])


@pytest.mark.parametrize("mode", [None, "1", "P", "LA", "RGBA"])
def test_masks_in_every_mode_of_png_are_read(tmp_path: Path, mode: str | None) -> None:
    path = save(tmp_path / "a.png", white(blob(0)), mode)
    levels = mask_pixels(path, path.read_bytes())
    levels = levels if levels.ndim == 2 else levels.max(axis=2)
    np.testing.assert_array_equal(levels, white(blob(0)))


@pytest.mark.parametrize("content", [b"GIF89a", b"GIF87a" + bytes(40)])
def test_a_damaged_gif_is_refused(content: bytes) -> None:
    with pytest.raises(QtsegError, match=r"1\.gif: wanted an image, but it does not decode"):
        mask_pixels(Path("1.gif"), content)


def test_a_gif_cut_short_is_refused(tmp_path: Path) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (64, 64), np.uint8)
    data = save(tmp_path / "1.gif", noise).read_bytes()
    with pytest.raises(QtsegError, match="does not decode"):
        mask_pixels(tmp_path / "1.gif", data[: len(data) // 2])


def test_without_pillow_a_gif_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingError, match=r"1\.gif: Pillow, .*pip install 'qtseg-edge\[prepare\]'"):
        mask_pixels(Path("1.gif"), b"GIF89a")


def test_nothing_else_needs_pillow() -> None:
    code = "import sys; sys.modules['PIL'] = None; import qtseg_edge.cli, qtseg_edge.prepare"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0


def test_sixteen_bits_are_refused_for_images() -> None:
    data = cv2.imencode(".png", np.zeros((4, 4), np.uint16))[1].tobytes()
    with pytest.raises(QtsegError, match=r"1\.png: wanted 8 bits per channel, got uint16"):
        image_pixels(Path("1.png"), data)


@pytest.mark.parametrize(
    ("name", "mode", "kept"),
    [
        ("a.png", None, True),
        ("a.jpg", None, True),
        ("a.JPEG", None, True),
        ("a.png", "L", True),
        ("a.png", "RGBA", False),
        ("a.png", "P", False),
        ("a.png", "1", False),
        ("a.tif", None, False),
        ("a.gif", "P", False),
    ],
)
def test_only_plain_png_and_jpeg_are_copied(tmp_path: Path, name: str, mode: str | None, kept: bool) -> None:
    path = save(tmp_path / name, picture(0), mode)
    assert kept_as_it_is(path, path.read_bytes()) is kept


def test_a_jpeg_that_calls_itself_png_is_not_copied(tmp_path: Path) -> None:
    data = save(tmp_path / "a.jpg", picture(0)).read_bytes()
    assert not kept_as_it_is(tmp_path / "a.png", data)


def test_what_is_written_is_read_back() -> None:
    for pixels in (picture(0), blob(0)):
        np.testing.assert_array_equal(mask_pixels(Path("a.png"), png_bytes(pixels)), pixels)
