"""A day in a theatre, shortened: 100,000 frames through a whole run, its memory, files and threads counted on the way."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qtseg_edge.errors import SourceLostError
from qtseg_edge.runtime import FakeBackend, Pipeline, Segmenter
from qtseg_edge.runtime.frames import Frame, Source
from qtseg_edge.runtime.pipeline import Stream
from qtseg_edge.runtime.sinks import open_sinks
from qtseg_edge.runtime.sources.supervised import Patience, Supervised
from qtseg_edge.runtime.temporal.filter import TemporalFilter
from tests.media import numbered_frame
from tests.runtime.stand_ins import frame_of, info

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
FRAMES, WARM_UP = 100_000, 20_000
BREAKS_AFTER = 1_500  # frames of one opening
PATIENCE = Patience(stall_s=2.0, restarts=-1, backoff_s=0.001, backoff_most_s=0.002)
PAGE = os.sysconf("SC_PAGE_SIZE")
# What the container's index grows by: some 60 bytes a frame. A leak of a picture in a thousand frames would be larger.
MOST_GROWTH = 12 << 20


class Cable(Source):
    """A camera whose cable has a loose contact. A lesion comes and goes; every seventh frame is damaged."""

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


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_memory_files_and_threads_are_flat_over_a_hundred_thousand_frames(tmp_path: Path) -> None:
    marks: dict[int, tuple[int, int, int]] = {}

    def mark(frames: int) -> None:
        if frames % WARM_UP == 0:
            marks[frames] = resident(), len(os.listdir("/proc/self/fd")), threading.active_count()
        if frames == FRAMES:
            source.close()

    segmenter = Segmenter(FakeBackend())
    losses = itertools.count()
    with Supervised(Cable(), Cable, PATIENCE, lambda _: next(losses)) as source:
        outputs = [str(tmp_path / name) for name in ("out.mp4", "out.jsonl", "out.events.jsonl", "out.coco.json")]
        stream = Stream(source, segmenter, TemporalFilter(2, segmenter.cut), open_sinks(outputs, source.info), "all")
        report = Pipeline([stream], on_frame=mark).run()
    assert report.error is None
    assert report.frames >= FRAMES
    assert next(losses) > 50
    memory, files, threads = zip(*(marks[frames] for frames in range(WARM_UP, FRAMES + 1, WARM_UP)), strict=True)
    print(f"memory {[f'{each / 2**20:.1f}' for each in memory]} MiB, files {files}, threads {threads}")
    assert max(memory[1:]) - memory[0] < MOST_GROWTH
    assert max(files[1:]) - files[0] <= 2 and max(threads[1:]) - threads[0] <= 2
