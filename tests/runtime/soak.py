"""A day in a theatre, shortened: a camera with a loose contact through a whole run, its memory, files and threads counted on the way."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from qtseg_edge.errors import SourceLostError
from qtseg_edge.runtime import FakeBackend, Pipeline, Segmenter
from qtseg_edge.runtime.frames import Frame, Source
from qtseg_edge.runtime.lane import Stream
from qtseg_edge.runtime.sinks import open_sinks
from qtseg_edge.runtime.sources.supervised import Patience, Supervised
from qtseg_edge.runtime.temporal.filter import TemporalFilter
from tests.media import numbered_frame
from tests.runtime.stand_ins import frame_of, info

BREAKS_AFTER = 300  # frames of one opening
PATIENCE = Patience(stall_s=2.0, restarts=-1, backoff_s=0.001, backoff_most_s=0.002)
PAGE = os.sysconf("SC_PAGE_SIZE")
OUTPUTS = ("out.mp4", "out.jsonl", "out.events.jsonl", "out.coco.json")


@dataclass(frozen=True)
class Soaked:
    """memory (bytes resident), files and threads: at each fifth of the frames. losses: how often the camera was lost."""

    frames: int
    losses: int
    memory: tuple[int, ...]
    files: tuple[int, ...]
    threads: tuple[int, ...]

    @property
    def is_flat(self) -> bool:
        return max(self.files[1:]) - self.files[0] <= 2 and max(self.threads[1:]) - self.threads[0] <= 2


class Cable(Source):
    """A camera whose cable has a loose contact. A lesion comes and goes."""

    def __init__(self) -> None:
        self.info = replace(info(), name="camera", live=True, size_hw=(96, 128))
        self._tissue = [numbered_frame(index, (96, 128)) for index in range(64)]
        self._empty = [frame * (frame[..., :1] < 128) for frame in self._tissue]
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        for index in range(BREAKS_AFTER):
            if self._closed:
                return
            time.sleep(0.001)  # or this thread alone would be busy all the time
            rgb = (self._tissue if index % 40 < 25 else self._empty)[index % 64]
            yield frame_of(rgb, index, source="camera")
        raise SourceLostError("camera: loose contact")

    def close(self) -> None:
        self._closed = True


def soak(folder: Path, frames: int) -> Soaked:
    marks: list[tuple[int, int, int]] = []
    losses = itertools.count()

    def mark(done: int) -> None:
        if done % (frames // 5) == 0 and done <= frames:
            gc.collect()
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
            marks.append((resident, len(os.listdir("/proc/self/fd")), threading.active_count()))
        if done == frames:
            source.close()

    segmenter = Segmenter(FakeBackend())
    with Supervised(Cable(), Cable, PATIENCE, lambda _: next(losses)) as source:
        sinks = open_sinks([str(folder / name) for name in OUTPUTS], source.info)
        report = Pipeline([Stream(source, segmenter, TemporalFilter(2, segmenter.cut), sinks, "all")], on_frame=mark).run()
    assert report.error is None and report.frames >= frames, report
    return Soaked(report.frames, next(losses), *zip(*marks, strict=True))
