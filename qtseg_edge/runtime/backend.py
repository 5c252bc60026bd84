"""The one contract that every inference engine meets. See CONTRIBUTING.md, "How to add a backend"."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import IncompatibleError, UsageError
from qtseg_edge.spec import ModelSpec

if TYPE_CHECKING:
    from typing_extensions import Self

Uint8 = NDArray[np.uint8]
INPUT, OUTPUTS = "image", ("mask", "confidence")


class Masks(NamedTuple):
    """mask: class index (N, H, W). confidence: probability of that class x 255 (N, H, W). Both uint8."""

    mask: Uint8
    confidence: Uint8


def require_interface(model: Path, names: Iterable[str]) -> None:
    """names: inputs and outputs that an engine found. Raises IncompatibleError where the graph is not what its metadata says."""
    missing = {INPUT, *OUTPUTS} - set(names)
    if missing:
        raise IncompatibleError(
            f"{model}: its graph has no {', '.join(sorted(missing))}; export it with: qtseg-edge export CHECKPOINT -o MODEL.onnx"
        )


class Backend(ABC):
    """`spec`, `infer`, `close`. A backend is used by one thread at a time.

    name: what the user reads, engine and precision, such as "openvino bf16". largest_batch: how many images one call takes where the
    spec leaves that open; None: any number.
    """

    name: str
    spec: ModelSpec
    largest_batch: int | None = None

    def infer(self, image: Uint8) -> Masks:
        """image: uint8 (N, H, W, 3) RGB, letterboxed to `spec.size_hw`, C-contiguous.

        The result may be views of memory that the next call overwrites: copy what must live longer.
        Raises UsageError for another shape or type, QtsegError where the engine fails; never returns stale output.
        """
        batch = image.shape[0] if self.spec.batch is None else self.spec.batch
        wanted = (batch, *self.spec.size_hw, 3)
        if image.dtype != np.uint8 or image.shape != wanted or not image.flags.c_contiguous:
            raise UsageError(f"{self.name}: wanted a contiguous uint8 image of shape {wanted}, got {image.dtype} {image.shape}")
        return self._infer(image)

    @abstractmethod
    def _infer(self, image: Uint8) -> Masks:
        """`infer` after its checks."""

    def close(self) -> None:  # noqa: B027 (a backend that holds nothing needs no close)
        """Free what the engine holds. Calling it twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
