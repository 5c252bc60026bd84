"""`--output web://HOST:PORT`: one page with every stream of a run, and the addresses that a monitoring system asks."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtseg_edge.errors import MissingError, UsageError
from qtseg_edge.runtime.monitor import Monitor
from qtseg_edge.runtime.web.status import READY_AGE_SECONDS

if TYPE_CHECKING:
    from qtseg_edge.runtime.web.server import WebServer

SCHEME = "web://"
_PACKAGES = ("starlette", "uvicorn", "websockets", "prometheus_client")


def web_server(outputs: Sequence[str], monitor: Monitor, ready_age_s: float = READY_AGE_SECONDS) -> WebServer | None:
    """The server that `outputs` (as the user typed them) ask for, not started; None where none of them does.

    ready_age_s: frame age up to which `/readyz` calls a stream ready. Raises MissingError, and UsageError for a second address, for what
    is no address, and for a token that cannot be one.
    """
    addresses = [text for text in outputs if text.startswith(SCHEME)]
    if not addresses:
        return None
    if len(addresses) > 1:
        raise UsageError(
            f"--output: one {SCHEME} address shows every stream to any number of viewers, here are {len(addresses)}; leave one"
        )
    if any(importlib.util.find_spec(package) is None for package in _PACKAGES):
        raise MissingError(f"{SCHEME} needs {', '.join(_PACKAGES)}; get them with: pip install 'qtseg-edge[web]'")
    from qtseg_edge.runtime.web.server import WebServer

    return WebServer(addresses[0], monitor, ready_age_s)
