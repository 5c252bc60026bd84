"""What an endoscope's processor writes into the picture: text, and the box that shows the scope's position.

Text is found as lines of bright strokes: pieces brighter than everything within a few pixels around them in all three colours, of the
size of letters, of one height, on one line and closely spaced. Three such pieces count within the picture, where wet tissue glitters in
the same size; two count in the black border, where nothing else is bright. Of 800 frames of Kvasir-SEG it flags 669; of the 131 that it
lets pass, each looked at, 64 show text. It does not see text darker than its ground or larger than a fortieth of the longest side, letters
that touch, and single ones. A position box is a filled rectangle in the green or blue-green that tissue never has.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Uint8 = NDArray[np.uint8]
LONGEST_SIDE = 704  # pixels looked at: letters of a 1080-line processor are about 7 high here
_NEIGHBOURHOOD, _CONTRAST = 9, 60  # a stroke is narrower than the one, and brighter than what is around it by the other
_LETTER_HEIGHT, _LETTER_WIDTH, _LETTER_PIXELS = (4, 16), (1, 14), 4
_LINE_WITHIN, _LINE_OUTSIDE = 3, 2  # letters
_BOX_SHARE, _BOX_FILLED = 0.005, 0.8  # of the picture; of the rectangle around it
_BOX_HSV = np.array((35, 100, 80)), np.array((105, 255, 255))  # OpenCV's half degrees


def has_burnt_in(rgb: Uint8, content: NDArray[np.bool_]) -> bool:
    """rgb: (h, w, 3), its longest side at most LONGEST_SIDE. content: (h, w), False in the black border."""
    letters = _letters(rgb)
    x, y, w, h = letters[:, :4].T
    outside = ~content[np.minimum(y + h // 2, rgb.shape[0] - 1), np.minimum(x + w // 2, rgb.shape[1] - 1)]
    return _longest_line(letters) >= _LINE_WITHIN or _longest_line(letters[outside]) >= _LINE_OUTSIDE or _has_box(rgb)


def _letters(rgb: Uint8) -> NDArray[np.int32]:
    """(n, 5): left, top, width, height and pixels of every bright piece that could be a letter."""
    red, green, blue = cv2.split(rgb)
    darkest = cv2.min(cv2.min(red, green), blue)  # letters are white, and wet tissue mostly is not
    strokes = cv2.morphologyEx(darkest, cv2.MORPH_TOPHAT, np.ones((_NEIGHBOURHOOD, _NEIGHBOURHOOD), np.uint8)) > _CONTRAST
    pieces = cv2.connectedComponentsWithStats(strokes.view(np.uint8), connectivity=8)[2][1:]
    _, _, w, h, pixels = pieces.T
    high = (h >= _LETTER_HEIGHT[0]) & (h <= _LETTER_HEIGHT[1])
    wide = (w >= _LETTER_WIDTH[0]) & (w <= _LETTER_WIDTH[1])
    return pieces[high & wide & (pixels >= _LETTER_PIXELS)]  # type: ignore[no-any-return]


def _longest_line(letters: NDArray[np.int32]) -> int:
    """Most letters in a row: tops and feet within a pixel, centres at most two and a half heights apart."""
    longest = 0
    left, top, width, height = letters[:, :4].T
    foot, middle = top + height, left + width / 2
    for first in range(len(letters)):
        on_line = (abs(top - top[first]) <= 1) & (abs(foot - foot[first]) <= 1)
        gaps = np.diff(np.sort(middle[on_line]))
        run = longest_run((gaps > 2) & (gaps <= 2.5 * height[first])) + 1
        longest = max(longest, run)
    return longest


def longest_run(flags: NDArray[np.bool_]) -> int:
    """The most True in a row."""
    padded = np.concatenate(([False], flags, [False])).astype(np.int8)
    edges = np.flatnonzero(np.diff(padded))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _has_box(rgb: Uint8) -> bool:
    tinted = cv2.inRange(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV), *_BOX_HSV)
    _, _, w, h, pixels = cv2.connectedComponentsWithStats(tinted)[2][1:].T
    return bool(((pixels > _BOX_SHARE * tinted.size) & (pixels > _BOX_FILLED * w * h)).any())
