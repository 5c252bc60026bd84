"""`out.jsonl`: one JSON object per frame."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from qtseg_edge.files import PendingFile
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink, unwritable


class JsonLines(Sink):
    """One JSON object per frame; the file takes its name when it is closed."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._pending = PendingFile(path)
        try:
            self._file: IO[str] = self._pending.temporary.open("w", encoding="utf-8")
        except OSError as error:
            raise unwritable(path, error) from error

    def write(self, result: Result) -> None:
        try:
            self._file.write(json.dumps(_record(result), separators=(",", ":")) + "\n")
        except OSError as error:
            raise unwritable(self._pending.path, error) from error

    def close(self) -> None:
        try:
            self._file.close()
            self._pending.commit()
        except OSError as error:
            self._pending.discard()
            raise unwritable(self._pending.path, error) from error

    def abandon(self) -> None:
        with suppress(OSError):  # the error that led here is the one to report
            self._file.close()
        self._pending.discard()


def _record(result: Result) -> dict[str, Any]:
    frame, segmentation = result.frame, result.segmentation
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
        "width": segmentation.mask.shape[1],
        "height": segmentation.mask.shape[0],
        "mask_area": result.area,
        "mask_share": round(result.area / segmentation.mask.size, 6),
        "regions": regions,
        "latency_ms": {name: None if value is None else round(value, 3) for name, value in latencies.items()},
    }
