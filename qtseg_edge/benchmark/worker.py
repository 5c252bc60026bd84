"""The process that holds one candidate, or what the machine's rates are measured with: python -m qtseg_edge.benchmark.worker.

Questions are lines of JSON on standard input, each answered by one line on standard output: {"answer": ...}, or {"failed": [class of the
error, its text]}, after which the next may be asked. It does nothing between two questions, and ends with its parent.
"""

from __future__ import annotations

import gc
import os
import queue
import re
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.benchmark.rates import Work, works
from qtseg_edge.child_process import each_question, own_output
from qtseg_edge.data import image_files, read_image, read_labelled_image
from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.backend import Backend, Masks
from qtseg_edge.runtime.devices import open_backend
from qtseg_edge.runtime.segmenter import Prepared, Segmenter

Uint8 = NDArray[np.uint8]
FRAME_HW = (720, 1280)
_SETTLE_SHARE = 0.3  # of a block: another engine's threads spin on for a moment, and caches hold another network


def main() -> None:
    report = own_output()
    questions: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    each_question(questions.put)
    subject = _Subject()
    while True:
        question = questions.get()
        try:
            report({"answer": subject.answer(question.pop("do"), question)})
        except QtsegError as error:
            report({"failed": [type(error).__name__, str(error)]})
        except OSError as error:
            report({"failed": [QtsegError.__name__, f"{error.filename or 'system'}: {error.strerror or error}"]})


class _Subject:
    """What the questions are about: a candidate after `open`, rates after `rates`."""

    def __init__(self) -> None:
        self._candidate: OpenCandidate | None = None
        self._works: list[Work] = []

    def answer(self, do: str, question: dict[str, Any]) -> Any:
        if do == "open":
            self._candidate = OpenCandidate(**question)
            return self._candidate.facts()
        if do == "rates":
            self._works = works(**question)
            return [{"place": work.place, "what": work.what, "by": work.by, "amount": work.amount} for work in self._works]
        if do == "rate":
            return timed(self._works[question["index"]].call, question["seconds"])
        assert self._candidate is not None
        if do == "time":
            return self._candidate.timed(question["what"], question["seconds"])
        return self._candidate.write_masks(**question)


class OpenCandidate:
    """A backend with images to give it. images: a folder of frames, which are shown at 1280x720, again and again."""

    def __init__(
        self, path: str, device: str, size_hw: list[int], batch: int, images: str, trust: bool = False, cuda_driver: str = "auto"
    ) -> None:
        self._batch = batch
        frames = [_at_720p(read_image(file)) for file in image_files(Path(images))]
        self._frames = [[frames[(start + index) % len(frames)] for index in range(batch)] for start in range(len(frames))]
        self._baseline = _resident_bytes("VmRSS")
        started = time.perf_counter()
        self._backend = open_backend(Path(path), device, trust=trust, cuda_driver=cuda_driver)
        height, width = size_hw
        # A checkpoint runs at any size, and its spec says that of its card; what has a fixed size has been asked for that one.
        self._backend.spec = replace(self._backend.spec, size_hw=(height, width))
        self._segmenter = Segmenter(_AnyBatch(self._backend))
        self._images = [self._image(frames) for frames in self._frames]
        self._backend.infer(self._images[0])
        self._seconds = time.perf_counter() - started

    def facts(self) -> dict[str, Any]:
        """seconds: from opening to the first masks."""
        return {"name": self._backend.name, "seconds": self._seconds}

    def timed(self, what: str, seconds: float) -> dict[str, Any]:
        """what: device_only, the backend alone; or end_to_end, from `batch` frames of 720p to their masks.

        ms: of each call. bytes: the most that this process has held so far, beyond what it held before the model was opened.
        """
        each = cycle(range(len(self._frames)))
        if what == "device_only":
            samples = timed(lambda: self._backend.infer(self._images[next(each)]), seconds)
        else:
            samples = timed(lambda: self._segment(self._frames[next(each)]), seconds)
        peak = _resident_bytes("VmHWM")
        return {"ms": samples, "bytes": None if peak is None or self._baseline is None else peak - self._baseline}

    def write_masks(self, images: str, labelled: bool, into: str) -> int:
        """The network's own mask of every image of a folder into a .npy file (n, H, W). Gives n."""
        files = image_files(Path(images))
        height, width = self._backend.spec.size_hw
        masks = np.lib.format.open_memmap(into, "w+", np.uint8, (len(files), height, width))
        for start in range(0, len(files), self._batch):
            chosen = files[start : start + self._batch]
            frames = [read_labelled_image(file) if labelled else read_image(file) for file in chosen]
            filled = [*frames, *[frames[-1]] * (self._batch - len(frames))]
            masks[start : start + len(chosen)] = self._backend.infer(self._image(filled)).mask[: len(chosen)]
        masks.flush()
        return len(files)

    def _image(self, frames: list[Uint8]) -> Uint8:
        return _joined([self._segmenter.prepare(frame) for frame in frames])

    def _segment(self, frames: list[Uint8]) -> None:
        prepared = [self._segmenter.prepare(frame) for frame in frames]
        masks = self._backend.infer(_joined(prepared))
        for index, one in enumerate(prepared):
            self._segmenter.restore(one, Masks(masks.mask[index : index + 1], masks.confidence[index : index + 1]))


class _AnyBatch(Backend):
    """What a segmenter needs to know of a backend of a fixed batch: frames are prepared and restored one at a time. It is never asked."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.spec = backend.name, replace(backend.spec, batch=None)

    def _infer(self, image: Uint8) -> Masks:
        raise NotImplementedError


def timed(call: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of each call for so many seconds, at least one; after a third of that which is not counted. No garbage is collected."""
    gc.collect()
    gc.disable()
    try:
        _milliseconds(call, _SETTLE_SHARE * seconds)
        return _milliseconds(call, seconds)
    finally:
        gc.enable()


def _milliseconds(call: Callable[[], object], seconds: float) -> list[float]:
    samples: list[float] = []
    now = time.perf_counter_ns()
    end = now + int(seconds * 1e9)
    while not samples or now < end:
        call()
        before, now = now, time.perf_counter_ns()
        samples.append((now - before) / 1e6)
    return samples


def _joined(prepared: list[Prepared]) -> Uint8:
    return prepared[0].image if len(prepared) == 1 else np.concatenate([one.image for one in prepared])


def _at_720p(frame: Uint8) -> Uint8:
    height, width = FRAME_HW
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]


def _resident_bytes(name: str) -> int | None:
    """VmRSS, held now, or VmHWM, the most so far; None where no /proc tells."""
    try:
        text = Path(f"/proc/{os.getpid()}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


if __name__ == "__main__":
    main()
