"""From what the user typed to a source."""

from __future__ import annotations

from qtseg_edge.runtime.frames import Source
from qtseg_edge.runtime.sources.files import open_files


def open_source(text: str) -> Source:
    """text: a path, a directory of images, or a glob pattern. Raises UsageError (nothing there), QtsegError (not readable)."""
    return open_files(text)
