"""TensorRT or TensorRT-RTX, whichever is installed: the module, its version and the one logger of the process."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

from qtseg_edge.errors import MissingError, QtsegError

Flavour = Literal["tensorrt", "tensorrt-rtx"]
FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt-rtx")
# What TensorRT-RTX 1.7 builds for. Without a list it builds for all of them but 7.5.
RTX_COMPUTE_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
RTX_DEFAULT_COMPUTE_CAPABILITIES = RTX_COMPUTE_CAPABILITIES[1:]
_MODULES: dict[Flavour, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_CURES: dict[Flavour, str] = {
    "tensorrt": "on a Jetson it comes with JetPack (python3-libnvinfer); elsewhere: pip install 'qtseg-edge[tensorrt]'",
    "tensorrt-rtx": "get it with: pip install 'qtseg-edge[tensorrt-rtx]'",
}


@dataclass(frozen=True)
class TensorRt:
    """module: `tensorrt` or `tensorrt_rtx`. messages: what its logger said from warnings up; whoever starts a step clears it."""

    module: Any
    flavour: Flavour
    version: str
    logger: Any
    messages: list[str]

    @property
    def is_rtx(self) -> bool:
        return self.flavour == "tensorrt-rtx"

    def reason(self, otherwise: str) -> str:
        """The last of what it said, for the one line of an error."""
        return " ".join(self.messages[-1].split())[:300] if self.messages else otherwise


def installed_flavours() -> tuple[Flavour, ...]:
    """Found without importing anything."""
    return tuple(flavour for flavour in FLAVOURS if importlib.util.find_spec(_MODULES[flavour]) is not None)


@functools.cache
def load_tensorrt(flavour: Flavour) -> TensorRt:
    """Raises MissingError where it is not installed or does not load.

    TensorRT keeps the first logger of a process for good and calls it later, so there is one per flavour and it is never freed.
    """
    try:
        module = importlib.import_module(_MODULES[flavour])
    except ModuleNotFoundError as error:
        raise MissingError(f"{flavour} is not installed; {_CURES[flavour]}") from error
    except (ImportError, OSError) as error:
        raise MissingError(f"{flavour} is installed but does not load ({error})") from error
    messages: list[str] = []

    class Logger(module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= module.ILogger.WARNING:
                messages.append(message)

    return TensorRt(module, flavour, str(module.__version__), Logger(), messages)


def default_flavour() -> Flavour:
    """Full TensorRT where there is a choice: it knows Jetson and Hopper. Raises MissingError where there is neither."""
    found = installed_flavours()
    if not found:
        raise MissingError(f"no TensorRT is installed; {_CURES['tensorrt']}; for RTX cards: pip install 'qtseg-edge[tensorrt-rtx]'")
    return found[0]


def flavour_from_text(text: str) -> Flavour:
    """Raises QtsegError for a flavour that this version does not know."""
    for flavour in FLAVOURS:
        if flavour == text:
            return flavour
    raise QtsegError(f"wanted one of {', '.join(FLAVOURS)}, got {text!r}")
