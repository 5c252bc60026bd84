from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow beyond 16 kB, as on a disk that is almost full.

    Not a fixture: a fixture lasts until pytest has told the result, and where its output goes to a file that one is too large too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def slow_disk(folder: Path, bytes_per_second: int) -> Iterator[Path]:
    """A disk that takes so little: a loop device that the kernel throttles. Skips where this user may not have one."""
    image, place = folder / "slow.img", folder / "slow"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    limits = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")
    if not limits.exists() or not _done(["mkfs.ext2", "-q", str(image)]) or not _done(["mount", "-o", "loop", str(image), str(place)]):
        pytest.skip("this user may not mount and throttle a disk (root, cgroup v1 with blkio)")
    try:
        device = os.stat(place).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        limits.write_text(f"{number} {bytes_per_second}")
        try:
            yield place
        finally:
            limits.write_text(f"{number} 0")
    finally:
        _done(["umount", "-l", str(place)])


def _done(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except OSError:
        return False
