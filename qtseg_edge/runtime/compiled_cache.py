"""What an engine compiled for this machine, kept in the user's cache folder, so that the next start need not compile it again.

Whatever is wrong with an entry or its folder, it is only a cache: nothing is read or written, and no error comes from here. An entry is
the SHA-256 of its name and content, then the content: one that was cut short, damaged, or put under another's name is not used. The
folder is this user's alone, because what lies in it is handed to an engine as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from qtseg_edge.files import replacing

Room = TypeVar("Room")
_DIGEST_BYTES = 32
_LARGEST_BYTES = 512 << 20  # of all entries of one kind; those used least lately go


def entry_path(kind: str, *parts: str) -> Path:
    """Where the entry lies that depends on `parts` and on nothing else."""
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    return _base() / "qtseg-edge" / kind / f"{key}.cache"


def read_entry(path: Path, room: Callable[[int], Room]) -> Room | None:
    """room: makes a writable buffer of so many bytes. Gives it filled; None where there is no entry, or not the one that was written."""
    with contextlib.suppress(OSError):
        _require_private(path.parent)
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not _is_own(status) or (os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o022):
                return None  # put there, or changed, while the folder was open to others
            size = status.st_size - _DIGEST_BYTES
            digest = file.read(_DIGEST_BYTES)
            if size <= 0:
                return None
            buffer: Any = room(size)
            is_whole = file.readinto(buffer) == size
        if is_whole and _digest(path, buffer) == digest:
            with contextlib.suppress(OSError):
                os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))  # used now, whether or not the disk keeps count of it
            found: Room = buffer
            return found
    return None


def write_entry(path: Path, content: bytes | memoryview) -> None:
    """Whole or not at all. Not flushed to the disk: an entry that a power cut leaves in part does not match its digest."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_private(path.parent)
        with replacing(path, flushed=False) as temporary, temporary.open("wb") as file:
            temporary.chmod(0o600)  # whatever the umask: `read_entry` takes none that others may write
            file.write(_digest(path, content))
            file.write(content)
        _remove_old(path.parent)


def _base() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base) if base else Path.home() / ".cache"
    except RuntimeError:  # a user without a home: there can be nothing below this
        return Path(os.devnull)


def _digest(path: Path, content: Any) -> bytes:
    digest = hashlib.sha256(path.name.encode())
    digest.update(content)
    return digest.digest()


def _require_private(folder: Path) -> None:
    """Closes it to other users. Raises OSError where it is not this user's own."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or not _is_own(status):
        raise PermissionError(f"{folder}: is not a folder of this user")
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)


def _is_own(status: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or status.st_uid == os.getuid()


def _remove_old(folder: Path) -> None:
    """Files of processes that were killed while they wrote are entries like others."""
    entries = [(max(status.st_atime_ns, status.st_mtime_ns), status.st_size, file) for file in folder.iterdir() for status in [file.stat()]]
    total = 0
    for number, (_, size, file) in enumerate(sorted(entries, reverse=True)):
        total += size
        if number and total > _LARGEST_BYTES:
            file.unlink(missing_ok=True)
