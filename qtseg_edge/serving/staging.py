"""Folders take their final name only when they are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qtseg_edge.errors import QtsegError, UsageError


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it is renamed to `path`, on any error removed with its contents.

    Raises UsageError where `path` exists, before or after: nothing is ever put into or over a folder that is there.
    """
    if path.exists():
        raise UsageError(f"{path}: exists already; name another folder, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_name(f".{path.name}.{os.getpid()}.part")
    pending.mkdir()
    try:
        yield pending
        try:
            pending.rename(path)
        except OSError as error:  # somebody was quicker
            raise UsageError(f"{path}: cannot take this name ({error.strerror}); try again") from error
    finally:
        shutil.rmtree(pending, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """On the disk when this returns, and read back. Raises QtsegError where the disk gives back something else."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if path.read_bytes() != content:
        raise QtsegError(f"{path}: was written but reads back as something else; check the disk")
