"""A file that grows while a run goes on, and of which whatever ends the run leaves the whole pieces."""

from __future__ import annotations

import os
import time
from itertools import count
from pathlib import Path

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.sinks.base import reason_of, unwritable

# What a power cut may cost; it also keeps the last flush short, however long the file has become.
_SYNC_SECONDS = 2.0


class Recording:
    """Lies beside `path` as `NAME.recording.SUFFIX`, where it is found after a crash, and takes the name `path` in `keep`.

    A file that a crash has left is not touched: the new one is then `NAME.recording-2.SUFFIX`. What `write` gets reaches the disk in
    `flush`, all of it or nothing, so the file is whole at any moment. File-like, for a muxer to write to. Raises QtsegError where it
    cannot be created, OSError afterwards.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.temporary, self._descriptor = _created(path)
        except OSError as error:
            raise unwritable(path, error) from error
        self._pieces: list[tuple[int, bytes]] = []  # position and content, not yet on the disk
        self._position = self._end = 0
        self._synced_at = time.monotonic()
        self.size = 0  # bytes on the disk

    def write(self, content: bytes) -> int:
        self._pieces.append((self._position, bytes(content)))
        self._position += len(content)
        self._end = max(self._end, self._position)
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def drop(self) -> None:
        """Forget what is not on the disk yet."""
        self._pieces.clear()
        self._position = self._end = self.size

    def flush(self) -> bool:
        """Put on the disk what was written. Whether there was anything. After an OSError it is dropped, and the file as it was before."""
        if not self._pieces:
            return False
        try:
            # First what makes it longer: what changes its beginning relies on that, and needs no space.
            for position, content in sorted(self._pieces, key=lambda piece: piece[0] < self.size):
                _write_at(self._descriptor, position, content)
            if time.monotonic() - self._synced_at >= _SYNC_SECONDS:
                os.fdatasync(self._descriptor)
                self._synced_at = time.monotonic()
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            self.drop()
            raise
        self._pieces.clear()
        self.size = self._end
        return True

    def reserve(self, size: int) -> None:
        """Make sure that there is space up to `size` bytes; until they are written, or `cut`, the file ends in zeros."""
        os.posix_fallocate(self._descriptor, self.size, size - self.size)

    def cut(self, size: int) -> None:
        """Take away what is on the disk behind `size` bytes."""
        os.ftruncate(self._descriptor, size)
        self.size = size
        self.drop()

    def read(self, size: int, start: int) -> bytes:
        """Of what is on the disk."""
        return os.pread(self._descriptor, size, start)

    def keep(self) -> None:
        """Give it its name, with what is on the disk. Raises QtsegError; it then stays under the temporary name."""
        try:
            os.fsync(self._descriptor)
            self.temporary.replace(self.path)
        except OSError as error:
            raise QtsegError(
                f"{self.path}: cannot take its name ({reason_of(error)}); what was written is in {self.temporary}, rename that"
            ) from error
        finally:
            os.close(self._descriptor)

    def discard(self) -> None:
        os.close(self._descriptor)
        self.temporary.unlink(missing_ok=True)

    def stopped(self, frames: int, seconds: float, error: Exception) -> QtsegError:
        """What to tell where writing failed. frames, seconds: how much is on the disk."""
        if not frames:
            return unwritable(self.path, error)
        return QtsegError(
            f"{self.path}: recording stopped after {frames} frames, {seconds:.1f} s ({reason_of(error)}); "
            "what was written until then is whole and stays; free some space, or give another --output"
        )


def _created(path: Path) -> tuple[Path, int]:
    for number in count(1):
        temporary = path.with_name(f"{path.stem}.recording{'' if number == 1 else f'-{number}'}{path.suffix}")
        try:
            return temporary, os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
    raise AssertionError("unreachable")


def _write_at(descriptor: int, position: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        written = os.pwrite(descriptor, rest, position)
        rest, position = rest[written:], position + written
