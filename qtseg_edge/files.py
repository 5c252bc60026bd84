"""Files take their final name only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class PendingFile:
    """A temporary path beside `path`, with the same suffix, that either becomes `path` or goes away."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")

    def commit(self, flushed: bool = True) -> None:
        """Flush to disk, unless a loss at a power cut does no harm, and rename. Raises OSError, and then leaves nothing behind."""
        try:
            if flushed:
                with self.temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            self.temporary.replace(self.path)
        finally:
            self.discard()

    def discard(self) -> None:
        self.temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path, flushed: bool = True) -> Iterator[Path]:
    """Yield a temporary path; on success it is renamed to `path`, on any error removed. flushed: as `PendingFile.commit` takes it."""
    pending = PendingFile(path)
    try:
        yield pending.temporary
        pending.commit(flushed)
    finally:
        pending.discard()
