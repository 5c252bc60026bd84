"""Nothing grows over 100,000 frames."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.soak import soak

# What the container's index grows by: some 60 bytes a frame. A leak of a picture in a thousand frames would be larger.
MOST_GROWTH = 12 << 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_files_and_threads_are_flat_over_a_hundred_thousand_frames(tmp_path: Path) -> None:
    seen = soak(tmp_path, 100_000)
    assert seen.losses > 50
    assert max(seen.memory[1:]) - seen.memory[0] < MOST_GROWTH, seen
    assert seen.is_flat, seen


def test_files_and_threads_are_flat_over_a_thousand_frames(tmp_path: Path) -> None:
    seen = soak(tmp_path, 1_000)
    assert seen.losses >= 3 and seen.is_flat, seen
