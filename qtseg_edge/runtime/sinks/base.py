"""What every output is, and the one that drops everything."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.results import Result


class ViewClosed(Exception):
    """Raised by a view's `write` or `starved` where the user closed it: the run ends as after its last frame."""


class Sink(ABC):
    """A place results go to, used by one thread of its own.

    name: what the user gave, fit to be shown. needs_picture: whether it wants the drawn overlay (`Result.picture`).
    is_view: somebody looks at it now. A view gets the newest result, and what it is too slow for is left out; every other sink gets
    every result of a file, and of a live source all but those it was too slow for, which are counted.

    Exactly one of `close` (finalise what was written) and `abandon` (a write failed, or there was none: keep what is whole and readable,
    leave nothing that is not) is called, and nothing after it. `write` raises QtsegError where it cannot; the other sinks go on.
    """

    name: str
    needs_picture = False
    is_view = False

    @abstractmethod
    def write(self, result: Result) -> None: ...

    def starved(self) -> None:  # noqa: B027 (only what is looked at shows anything between two results)
        """No result for STALE_SECONDS, called again as often while it lasts: a view takes the old picture and mask away."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def abandon(self) -> None: ...


class NullSink(Sink):
    name = "null://"

    def write(self, result: Result) -> None:
        """Drops it."""

    def close(self) -> None:
        """Nothing is held."""

    abandon = close


def reason_of(error: Exception) -> str:
    """In the system's words, without the file's name: that may be an address with a password."""
    return str(getattr(error, "strerror", None) or error)


def unwritable(path: Path, error: Exception) -> QtsegError:
    return QtsegError(f"{path}: cannot be written ({reason_of(error)}); nothing is left of it, give another --output")
