"""Write golden_small.npz: `python -m tests.model.record_golden` from the repository root.

The logits come from the slow reference, never from the package. Only needed when the small network of authors_format.py changes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.model import slow_reference
from tests.model.authors_format import Size, weights

GOLDEN = Path(__file__).with_name("golden_small.npz")
SIZE_HW = (64, 224)  # 2x7 at stride 32: narrower, and the three poolings could not be told from one
EVERY = 3  # pixels kept in each direction


def image() -> NDArray[np.float32]:
    """(3, H, W) in -1..1: seeded squares of 8 pixels, coarse enough to be seen at stride 32."""
    squares = np.random.RandomState(2024).uniform(-1, 1, (3, SIZE_HW[0] // 8, SIZE_HW[1] // 8))
    return squares.repeat(8, axis=1).repeat(8, axis=2).astype(np.float32)


def main() -> None:
    state = {key: tensor.double().numpy() for key, tensor in weights(Size()).items()}
    logits = slow_reference.logits(state, image().astype(np.float64), Size().heads)
    np.savez_compressed(GOLDEN, logits=logits[:, ::EVERY, ::EVERY].astype(np.float32))


if __name__ == "__main__":
    main()
