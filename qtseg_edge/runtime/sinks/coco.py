"""`out.coco.json`: a COCO data set of the frames and the regions found in them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from qtseg_edge.errors import QtsegError
from qtseg_edge.runtime.frames import SourceInfo
from qtseg_edge.runtime.regions import Region, where_class
from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.sinks.base import Sink, reason_of
from qtseg_edge.runtime.sinks.pictures import mask_name
from qtseg_edge.runtime.sinks.recording import Recording
from qtseg_edge.runtime.sinks.rle import run_lengths
from qtseg_edge.runtime.temporal.events import Track
from qtseg_edge.spec import NOTICE

_BETWEEN, _END = b'\n],\n"images": [\n', b"\n]\n}\n"
_COPY_BYTES = 1 << 20
_SAME_PLACE = 0.3  # intersection over union; a track's box is measured at the network's size


class CocoFile(Sink):
    """Images are frames with a signal, annotations their connected components; memory does not grow with their number.

    Annotations go into the file as they come; the images, a list of their own, wait in a second file beside it and are appended at the
    end, for which space is kept. A crash leaves both, without an end.
    """

    def __init__(self, path: Path, info: SourceInfo) -> None:
        self.name = str(path)
        self._info = info
        self._annotations = Recording(path)
        try:
            self._images = Recording(path.with_name(f"{path.stem}.images{path.suffix}"))
        except QtsegError:
            self._annotations.discard()
            raise
        self._image_count = self._annotation_count = 0
        self._until = 0.0

    def write(self, result: Result) -> None:
        if not result.frame.has_signal:
            return
        image_id = self._image_count + 1
        annotations = _annotations(result, image_id, self._annotation_count + 1)
        head = _head(result.classes) if image_id == 1 else b""
        try:
            self._append(_lines([self._image(result, image_id)], image_id == 1), head + _lines(annotations, self._annotation_count == 0))
        except OSError as error:
            raise self._annotations.stopped(self._image_count, self._until, error) from error
        self._image_count, self._annotation_count = image_id, self._annotation_count + len(annotations)
        self._until = float(result.frame.time)

    def close(self) -> None:
        if not self._image_count:
            self.abandon()
            return
        try:
            self._finalise()
        except OSError as error:
            raise QtsegError(f"{self.name}: cannot be completed ({reason_of(error)}); free some space, or give another --output") from error
        self._annotations.keep()

    def abandon(self) -> None:
        if not self._image_count:
            self._annotations.discard()
            self._images.discard()
            return
        with suppress(OSError, QtsegError):  # the error that led here is the one to report
            self._finalise()
            self._annotations.keep()

    def _append(self, image: bytes, annotations: bytes) -> None:
        images_before = self._images.size
        self._images.write(image)
        self._images.flush()
        try:
            self._annotations.write(annotations)
            self._annotations.reserve(self._annotations.tell() + len(_BETWEEN) + self._images.size + len(_END))
            self._annotations.flush()
        except OSError:
            self._annotations.drop()
            self._images.cut(images_before)  # an image without its annotations would look like one with nothing on it
            raise

    def _finalise(self) -> None:
        self._annotations.write(_BETWEEN)
        for start in range(0, self._images.size, _COPY_BYTES):
            self._annotations.write(self._images.read(_COPY_BYTES, start))
            self._annotations.flush()
        self._annotations.write(_END)
        self._annotations.flush()
        self._annotations.cut(self._annotations.size)
        self._images.discard()

    def _image(self, result: Result, image_id: int) -> dict[str, Any]:
        frame = result.frame
        height, width = frame.rgb.shape[:2]
        return {
            "id": image_id,
            "file_name": frame.source if self._info.images else mask_name(frame, self._info),
            "width": width,
            "height": height,
            "source": frame.source,
            "frame": frame.index,
            "time_s": round(float(frame.time), 6),
        }


def _head(classes: tuple[str, ...]) -> bytes:
    about = {"description": f"Regions found by qtseg-edge, not drawn by hand. {NOTICE}"}
    categories = [{"id": index, "name": name} for index, name in enumerate(classes) if index > 0]
    return f'{{"info": {json.dumps(about)},\n"licenses": [],\n"categories": {json.dumps(categories)},\n"annotations": [\n'.encode()


def _lines(entries: list[dict[str, Any]], is_first: bool) -> bytes:
    if not entries:
        return b""
    return ("" if is_first else ",\n").encode() + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries).encode()


def _annotations(result: Result, image_id: int, first_id: int) -> list[dict[str, Any]]:
    tracks = _tracks_of(result.regions, result.tracks)
    annotations: list[dict[str, Any]] = []
    for number, region in enumerate(result.regions):
        annotation = {
            "id": first_id + number,
            "image_id": image_id,
            "category_id": region.class_index,
            "segmentation": run_lengths(_inside(result.segmentation.mask, region)),
            "bbox": region.box,
            "area": region.area,
            "iscrowd": 0,
            "score": round(region.confidence, 4),
        }
        annotations.append(annotation | ({"track_id": tracks[number]} if number in tracks else {}))
    return annotations


def _inside(mask: NDArray[np.uint8], region: Region) -> NDArray[np.uint8]:
    """Where a region is: (h, w) of 0 and 1, without whatever lies in a hole of it."""
    x, y, width, height = region.box
    window = (slice(y, y + height), slice(x, x + width))
    _, labels = cv2.connectedComponents(where_class(mask[window], region.class_index), connectivity=8)
    on_x, on_y = region.contour[0]
    inside = np.zeros_like(mask)
    inside[window] = labels == labels[on_y - y, on_x - x]
    return inside


def _tracks_of(regions: list[Region], tracks: tuple[Track, ...]) -> dict[int, int]:
    """Number of a region -> id of the track that follows it; each track once, the best fit first."""
    fits = [
        (_overlap(region.box, track.box), number, track.id)
        for number, region in enumerate(regions)
        for track in tracks
        if track.class_index == region.class_index
    ]
    found: dict[int, int] = {}
    for overlap, number, track_id in sorted(fits, reverse=True):
        if overlap >= _SAME_PLACE and number not in found and track_id not in found.values():
            found[number] = track_id
    return found


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    return common / (one[2] * one[3] + other[2] * other[3] - common)
