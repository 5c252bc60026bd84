"""Raw downloads in miniature: real files in the formats, with the flaws, of the published ones."""

from __future__ import annotations

import hashlib
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Uint8 = NDArray[np.uint8]
SIZE_HW = (24, 36)
RED, GREEN = (255, 0, 0), (0, 255, 0)


def picture(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> Uint8:
    """(h, w, 3) RGB, another one for every seed; smooth, so that JPEG keeps it apart from others."""
    corners = np.random.RandomState(seed).randint(0, 256, (3, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(corners).resize(size_hw[::-1], Image.Resampling.BICUBIC))


def blob(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> Uint8:
    """(h, w) of 0 and 1: a rectangle somewhere."""
    top, left = np.random.RandomState(1000 + seed).randint(0, 8, 2)
    mask = np.zeros(size_hw, np.uint8)
    mask[top : top + 10, left : left + 14] = 1
    return mask


def save(path: Path, pixels: NDArray[np.generic], mode: str | None = None, **options: Any) -> Path:
    """In the format of the suffix. mode: Pillow's, where the array does not tell it (1 for one bit, P for a palette)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def white(mask: Uint8) -> Uint8:
    return mask * np.uint8(255)


def coloured(indices: Uint8) -> Uint8:
    return np.array([(0, 0, 0), RED, GREEN], np.uint8)[indices]


def grey_tagged_tiff(rgb: Uint8, order: str = "<", photometric: int = 1) -> bytes:
    """An uncompressed TIFF of three samples per pixel that calls itself grey (1: black is zero), as those of CVC-ClinicDB do."""
    height, width, samples = rgb.shape
    tags = [(256, width), (257, height), (258, 0), (259, 1), (262, photometric), (273, 0), (277, samples), (278, height), (279, rgb.size)]
    depths_at = 8 + 2 + 12 * len(tags) + 4
    data_at = depths_at + 2 * samples
    entries = b""
    for tag, value in tags:
        if tag == 258:
            entries += struct.pack(f"{order}HHII", tag, 3, samples, depths_at)
        elif tag in (273, 279):
            entries += struct.pack(f"{order}HHII", tag, 4, 1, data_at if tag == 273 else value)
        else:
            entries += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    return header + entries + struct.pack(f"{order}I", 0) + struct.pack(f"{order}3H", 8, 8, 8) + rgb.tobytes()


def grey_tagged_lzw_tiff(rgb: Uint8) -> bytes:
    """The same lie in a file that Pillow compressed."""
    stream = BytesIO()
    Image.fromarray(rgb).save(stream, "TIFF", compression="tiff_lzw")
    told = struct.pack("<HHI", 262, 3, 1)
    data = stream.getvalue()
    assert data.count(told + struct.pack("<H", 2)) == 1
    return data.replace(told + struct.pack("<H", 2), told + struct.pack("<H", 1))


def isic2016(raw: Path, train: int = 10, test: int = 3) -> Path:
    for part, count, first in (("train", train, 0), ("test", test, 100)):
        for number in range(first, first + count):
            save(raw / part / "inputs" / f"ISIC_{number:07}.jpg", picture(number), quality=95)
            save(raw / part / "targets" / f"ISIC_{number:07}.png", white(blob(number)))
    return raw


def busi(raw: Path, benign: int = 11, malignant: int = 6) -> Path:
    """Every third image has a second lesion in a mask of its own; masks are stored in three ways; a normal image lies by."""
    for group, count, first in (("benign", benign, 0), ("malignant", malignant, 500)):
        for index in range(1, count + 1):
            stem = raw / group / f"{group} ({index})"
            save(stem.with_suffix(".png"), picture(first + index))
            mode = (None, "1", "RGB")[index % 3]
            save(stem.with_name(f"{stem.name}_mask.png"), white(blob(first + index)), mode)
            if index % 3 == 0:
                save(stem.with_name(f"{stem.name}_mask_1.png"), white(np.fliplr(blob(first + index))))
    save(raw / "normal" / "normal (1).png", picture(999))
    save(raw / "normal" / "normal (1)_mask.png", np.zeros(SIZE_HW, np.uint8))
    return raw


def busi_mask(stem: str) -> Uint8:
    group, index = stem.removesuffix(")").split(" (")
    seed = int(index) + (500 if group == "malignant" else 0)
    mask = blob(seed)
    return mask | np.fliplr(mask) if int(index) % 3 == 0 else mask


def two_polyps(number: int, size_hw: tuple[int, int] = (64, 96)) -> Uint8:
    """Class indices: a neoplastic polyp (1) at the left, a non-neoplastic one (2) at the right, edges off JPEG's 8-pixel grid."""
    indices = np.zeros(size_hw, np.uint8)
    indices[5 + number % 9 : 45, 7:39] = 1
    indices[13:51, 53 : 85 + number % 9] = 2
    return indices


def bkai_igh(raw: Path, count: int = 10) -> Path:
    for number in range(count):
        save(raw / "train" / "train" / f"{number:032x}.jpeg", picture(number, (64, 96)))
        save(raw / "train_gt" / "train_gt" / f"{number:032x}.jpeg", coloured(two_polyps(number)), quality=75)
    save(raw / "test" / "test" / "unlabelled.jpeg", picture(99))
    return raw


def dsb_id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def dsb2018(raw: Path, count: int = 10) -> Path:
    """RGBA images, one mask per nucleus."""
    for number in range(count):
        name = dsb_id(number)
        rgba = np.dstack([picture(number), np.full(SIZE_HW, 255, np.uint8)])
        save(raw / "stage1_train" / name / "images" / f"{name}.png", rgba)
        for nucleus, mask in enumerate((blob(number), np.fliplr(blob(number)))):
            save(raw / "stage1_train" / name / "masks" / f"{dsb_id(1000 * nucleus + number)}.png", white(mask))
    return raw


def fives(raw: Path, each: int = 5, test: int = 1) -> Path:
    """Numbers begin anew in test, as the published ones do."""
    for part, count, seed in (("train", each, 0), ("test", test, 500)):
        for place, letter in enumerate("ADGN"):
            for number in range(1 + place * count, 1 + (place + 1) * count):
                save(raw / part / "Original" / f"{number}_{letter}.png", picture(seed + number))
                save(raw / part / "Ground truth" / f"{number}_{letter}.png", white(blob(seed + number)), "RGBA")
    return raw


def kvasir_seg(raw: Path, count: int = 10) -> Path:
    for number in range(count):
        save(raw / "Kvasir-SEG" / "images" / f"cju{number}.jpg", picture(number))
        save(raw / "Kvasir-SEG" / "masks" / f"cju{number}.jpg", white(blob(number)), "RGB", quality=75)
    (raw / "Kvasir-SEG" / "kavsir_bboxes.json").write_text("{}")
    return raw


def cvc_clinicdb(raw: Path, frames: tuple[int, ...] = (1, 25, 26, 51, 60, 68, 79, 104)) -> Path:
    """Colour images with the wrong tag, masks with a right one. By default seven sequences, some with two frames."""
    for number in frames:
        (raw / "Original").mkdir(parents=True, exist_ok=True)
        (raw / "Original" / f"{number}.tif").write_bytes(grey_tagged_tiff(picture(number)))
        save(raw / "Ground Truth" / f"{number}.tif", white(blob(number)))
    return raw


def drive(raw: Path, train: int = 5, test: int = 2) -> Path:
    for part, short, numbers in (("training", "training", range(21, 21 + train)), ("test", "test", range(1, 1 + test))):
        for number in numbers:
            save(raw / part / "images" / f"{number:02}_{short}.tif", picture(number))
            save(raw / part / "1st_manual" / f"{number:02}_manual1.gif", white(blob(number)))
            save(raw / part / "mask" / f"{number:02}_{short}_mask.gif", white(np.ones(SIZE_HW, np.uint8)))
    return raw
