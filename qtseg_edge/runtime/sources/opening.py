"""Opening what may never come back from being opened: a camera's driver, or a pipeline."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress

from qtseg_edge.errors import SourceLostError
from qtseg_edge.runtime.frames import Source


def opened_within(seconds: float, opening: Callable[[], Source], name: str, cure: str) -> Source:
    """What `opening` returns, or raises. Raises SourceLostError where it takes longer; what it opens after that is closed."""
    opened: Future[Source] = Future()
    threading.Thread(target=_open, args=(opening, opened), name=f"opening {name}", daemon=True).start()
    try:
        wait([opened], seconds)
    finally:
        is_late = opened.cancel()
    if is_late:
        raise SourceLostError(f"{name}: not open after {seconds:g} s; {cure}")
    return opened.result()


def _open(opening: Callable[[], Source], opened: Future[Source]) -> None:
    try:
        source = opening()
    except BaseException as error:
        with suppress(InvalidStateError):  # nobody waits any more
            opened.set_exception(error)
        return
    try:
        opened.set_result(source)
    except InvalidStateError:
        source.close()
