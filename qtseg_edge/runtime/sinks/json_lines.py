"""`out.jsonl`: one JSON object per frame."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.regions import where_class
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink
from qtseg_edge.runtime.sinks.recording import Recording
from qtseg_edge.runtime.sinks.rle import run_lengths


class JsonLines(Sink):
    """One JSON object per frame, on the disk as soon as it is written; the file takes its name when it ends."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._recording = Recording(path)
        self._lines, self._until = 0, 0.0

    def write(self, result: Result) -> None:
        self._recording.write((json.dumps(_record(result), separators=(",", ":")) + "\n").encode())
        try:
            self._recording.flush()
        except OSError as error:
            raise self._recording.stopped(self._lines, self._until, error) from error
        self._lines, self._until = self._lines + 1, float(result.frame.time)

    def close(self) -> None:
        self._recording.keep()

    def abandon(self) -> None:
        if not self._lines:
            self._recording.discard()
            return
        with suppress(QtsegError):  # the error that led here is the one to report
            self._recording.keep()


def _record(result: Result) -> dict[str, Any]:
    frame, segmentation = result.frame, result.segmentation
    latencies = {
        "decode": frame.decode_ms,
        "prepare": segmentation.prepare_ms,
        "infer": segmentation.infer_ms,
        "restore": segmentation.restore_ms,
    }
    return {
        "source": frame.source,
        "frame": frame.index,
        "time_s": round(float(frame.time), 6),
        "signal": frame.has_signal,
        "width": segmentation.mask.shape[1],
        "height": segmentation.mask.shape[0],
        **_found(result),
        "latency_ms": {name: None if value is None else round(value, 3) for name, value in latencies.items()},
        "age_ms": round((result.segmented_at - frame.captured_at) * 1e3, 3),
    }


def _found(result: Result) -> dict[str, Any]:
    """Of a frame without signal nothing is known: no area is not an area of 0."""
    if not result.frame.has_signal:
        return {"mask_area": None, "mask_share": None, "regions": [], "tracks": [], "rle": {}}
    mask = result.segmentation.mask
    regions = [
        {
            "class": result.classes[region.class_index],
            "area": region.area,
            "box": region.box,
            "confidence": round(region.confidence, 4),
            "contour": region.contour.tolist(),
        }
        for region in result.regions
    ]
    tracks = [
        {
            "id": track.id,
            "class": result.classes[track.class_index],
            "area": track.area,
            "box": track.box,
            "confidence": round(track.confidence, 4),
        }
        for track in result.tracks
    ]
    present = sorted({region.class_index for region in result.regions})
    return {
        "mask_area": result.area,
        "mask_share": round(result.area / mask.size, 6),
        "regions": regions,
        "tracks": tracks,
        "rle": {result.classes[index]: run_lengths(where_class(mask, index)) for index in present},
    }
