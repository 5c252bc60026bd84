"""Pictures that carry the time at which they were made. Imported by Debian's Python too, which has numpy only."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, RATE = 160, 120, 25
_CELL, _COLUMNS, _BITS = 16, 8, 24


def clock_picture() -> NDArray[np.uint8]:
    """Grey (HEIGHT, WIDTH): the system's monotonic clock in milliseconds as bits, below them a square that moves."""
    now = int(time.monotonic() * 1000)
    grey = np.full((HEIGHT, WIDTH), 40, np.uint8)
    for bit in range(_BITS):
        top, left = _CELL * (bit // _COLUMNS), _CELL * (bit % _COLUMNS)
        grey[top : top + _CELL, left : left + _CELL] = 220 if now >> bit & 1 else 20
    left = now // 20 % (WIDTH - _CELL)
    grey[80:112, left : left + _CELL] = 200
    return grey


def age_of(rgb: NDArray[np.uint8], now: float) -> float:
    """Seconds that such a picture is old, after lossy coding. now: `time.monotonic()`."""
    cells = rgb[: _CELL * (_BITS // _COLUMNS), : _CELL * _COLUMNS, 1].reshape(_BITS // _COLUMNS, _CELL, _COLUMNS, _CELL)
    levels = cells[:, 4:-4, :, 4:-4].mean(axis=(1, 3)).ravel()
    born_at = sum(1 << bit for bit, level in enumerate(levels) if level > 120) / 1000  # modulo 2**24 milliseconds
    return (now - born_at) % (2**_BITS / 1000)
