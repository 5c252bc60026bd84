"""From open sources and what the user wants of them to the streams of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Literal

from qtseg_edge.errors import UsageError
from qtseg_edge.runtime.backend import Backend
from qtseg_edge.runtime.frames import Source
from qtseg_edge.runtime.handoff import Policy
from qtseg_edge.runtime.lane import Stream
from qtseg_edge.runtime.roi.area import Roi
from qtseg_edge.runtime.segmenter import Segmenter
from qtseg_edge.runtime.sinks import default_output, for_start, for_stream, open_sinks
from qtseg_edge.runtime.temporal.filter import TemporalFilter

if TYPE_CHECKING:
    from qtseg_edge.runtime.web.server import WebServer

Temporal = Literal["hysteresis", "none"]


@dataclass(frozen=True)
class StreamOptions:
    """threshold: None takes the model card's. policy: None takes every frame of a file and the newest of a live source. temporal: None
    filters video, and leaves single images, which have nothing to do with each other, as they are. roi: which part of a frame the network
    is shown.
    """

    threshold: float | None = None
    policy: Policy | None = None
    temporal: Temporal | None = None
    roi: Roi = "none"


def open_streams(
    sources: Sequence[Source],
    backend: Backend,
    outputs: Sequence[str],
    options: StreamOptions,
    web: WebServer | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> list[Stream]:
    """One stream per source, each with its own of the `outputs` (`for_stream`), by default its overlay as a file. The sources stay the
    caller's; the outputs belong to the run. Opens all of them, or none. web: shows the streams that have an output `web://`. note: is told
    of recordings that are removed. Raises what `Segmenter` and `open_sinks` raise, and UsageError where images are to be filtered as if
    they were video.
    """
    inputs = tuple(file for source in sources for file in source.info.files)
    streams: list[Stream] = []
    started = datetime.now(timezone.utc)
    try:
        for number, source in enumerate(sources):
            info = replace(source.info, files=inputs)  # no output may take the place of any of them
            if info.images and options.temporal == "hysteresis":
                raise UsageError(
                    f"--temporal hysteresis: would hide all of {info.name}, which are single images; leave it out, or make a video of them"
                )
            segmenter = Segmenter(backend, options.threshold, options.roi)
            hysteresis = options.temporal == "hysteresis" or (options.temporal is None and not info.images)
            temporal = TemporalFilter(backend.spec.classes, segmenter.cut, hysteresis)
            texts = [for_start(for_stream(text, number, len(sources)), started) for text in outputs or [default_output(info)]]
            view = None if web is None else partial(web.view, stream=number, card=backend.spec.card, threshold=segmenter.threshold)
            streams.append(Stream(source, segmenter, temporal, open_sinks(texts, info, view, note), options.policy))
    except BaseException:
        for stream in streams:
            for sink in stream.sinks:
                sink.abandon()
        raise
    return streams
