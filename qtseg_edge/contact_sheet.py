"""Pictures of many images at once, masks drawn as outlines: for looking rather than reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.regions import contours_of
from qtseg_edge.transforms import Letterbox

Uint8 = NDArray[np.uint8]
COLUMNS, TILE, CAPTION, HEADER, GAP = 4, 320, 44, 40, 8  # pixels but for the first
_TEXT_RGB = (240, 240, 240)
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5
_SUBPIXEL_BITS = 4


class Style(NamedTuple):
    """How one kind of outline is drawn, and what the legend calls it."""

    text: str
    colour_rgb: tuple[int, int, int]
    thickness: int


# Blue and yellow stay apart for every kind of colour vision, and tissue has neither. The label is drawn first and stays seen on both
# sides where the two are equal.
LABEL = Style("label", (30, 110, 255), 5)
PREDICTION = Style("prediction", (255, 235, 0), 2)


@dataclass(frozen=True)
class Tile:
    """image: RGB (h, w, 3). outlines: boolean masks (h, w) and how each is drawn, in this order. captions: two lines at most."""

    image: Uint8
    outlines: tuple[tuple[NDArray[np.bool_], Style], ...]
    captions: tuple[str, ...] = ()


def contact_sheet(tiles: Sequence[Tile], legend: Sequence[Style], title: str) -> bytes:
    """PNG of the tiles, row by row, under one line with the legend and the title."""
    rows = -(-len(tiles) // COLUMNS)
    height, width = HEADER + rows * (TILE + CAPTION + GAP), COLUMNS * (TILE + GAP) - GAP
    picture = np.zeros((height, width, 3), np.uint8)
    _write_header(picture, legend, title)
    for index, tile in enumerate(tiles):
        top, left = HEADER + index // COLUMNS * (TILE + CAPTION + GAP), index % COLUMNS * (TILE + GAP)
        picture[top : top + TILE + CAPTION, left : left + TILE] = _drawn(tile)
    return _png(picture)


def _drawn(tile: Tile) -> Uint8:
    """(TILE + CAPTION, TILE, 3) RGB: the image scaled to fit, its outlines, its captions."""
    letterbox = Letterbox((tile.image.shape[0], tile.image.shape[1]), (TILE, TILE))
    drawn = np.zeros((TILE + CAPTION, TILE, 3), np.uint8)
    letterbox.frame(tile.image, out=drawn[:TILE])
    for mask, style in tile.outlines:
        _draw_outlines(drawn[:TILE], mask, letterbox, style)
    for line, text in enumerate(tile.captions):
        _write(drawn, text, (2, TILE + 17 + 20 * line))
    return drawn


def _draw_outlines(tile: Uint8, mask: NDArray[np.bool_], letterbox: Letterbox, style: Style) -> None:
    """Outlines are scaled, not the mask: thin structures would fall apart."""
    scale_yx = np.divide(letterbox.content_hw, letterbox.source_hw)
    for contour in contours_of(mask.view(np.uint8), 1):
        points = (contour.reshape(-1, 2) + 0.5) * scale_yx[::-1] - 0.5  # pixel centres
        fixed = np.rint(points * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.polylines(tile, [fixed], True, style.colour_rgb, style.thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _write_header(picture: Uint8, legend: Sequence[Style], title: str) -> None:
    x = 2
    for style in legend:
        cv2.line(picture, (x, HEADER // 2), (x + 30, HEADER // 2), style.colour_rgb, style.thickness, cv2.LINE_AA)
        x = _write(picture, style.text, (x + 38, HEADER // 2 + 5)) + 24
    _write(picture, title, (x, HEADER // 2 + 5))


def _write(picture: Uint8, text: str, origin: tuple[int, int]) -> int:
    """Returns where the text ends. It is cut short at the edge; OpenCV's letters are ASCII."""
    shown = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)
    width = picture.shape[1] - origin[0]
    while shown and _width(shown) > width:
        shown = shown[:-1]
    cv2.putText(picture, shown, origin, _FONT, _FONT_SCALE, _TEXT_RGB, 1, cv2.LINE_AA)
    return origin[0] + _width(shown)


def _width(text: str) -> int:
    return cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0]


def _png(rgb: Uint8) -> bytes:
    written, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    if not written:
        raise QtsegError("contact sheet: OpenCV could not encode it as PNG")
    return encoded.tobytes()
