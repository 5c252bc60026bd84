"""Regions followed from frame to frame: single-frame flashes are held back, what stays becomes an event.

The filter only ever hides: what the network did not mark in this frame is never shown (docs/decisions/0016-temporal-filter.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from qtseg_edge.runtime.backend import Masks
from qtseg_edge.runtime.frames import Frame
from qtseg_edge.runtime.regions import where_class
from qtseg_edge.runtime.segmenter import Prepared
from qtseg_edge.runtime.temporal.events import Event, Track
from qtseg_edge.runtime.temporal.regions import Components, Shape, components_of
from qtseg_edge.runtime.temporal.tracker import CONFIRM, Followed, Tracker
from qtseg_edge.transforms import Letterbox

Uint8 = NDArray[np.uint8]
_REGIONS_FOLLOWED = 32  # of a frame, the largest; what else a noisy frame shows is treated as specks


@dataclass(frozen=True)
class Filtered:
    """masks: what may be shown, in place of the backend's; the same object where nothing was hidden. None where None came in.

    tracks: of this frame, shown, by id. events: those that are open, and those that ended since the frame before, by id.
    """

    masks: Masks | None
    tracks: tuple[Track, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass
class _Running:
    """An open event, `Frame.time` of the last frame that showed it, and area x confidence of its best one."""

    event: Event
    last_s: float
    best_score: float


class TemporalFilter:
    """Of one stream, used by one thread.

    classes: of the model, with the background. cut: foreground probability x 255 from which a pixel of a two-class model counts.
    hysteresis: hide a region until it was seen in CONFIRM of the last WINDOW frames; otherwise every region is shown at once.
    """

    def __init__(self, classes: int, cut: int, hysteresis: bool = True) -> None:
        self._classes, self._cut, self._hysteresis = classes, cut, hysteresis
        self._tracker = Tracker(CONFIRM if hysteresis else 1)
        self._running: dict[Followed, _Running] = {}
        self._events = 0
        self._scene: object = None

    def update(self, masks: Masks | None, prepared: Prepared, frame: Frame) -> Filtered:
        """masks: what the backend gave for this frame alone, (1, H, W) each, not changed; None where the frame is flat.

        A frame without signal, or of another file, size or crop, ends all events and forgets all tracks.
        """
        scene = (frame.source, prepared.frame_hw, prepared.area)
        is_new = not frame.has_signal or scene != self._scene
        ended = self._ended(self._tracker.forget()) if is_new else []
        self._scene = scene
        if not frame.has_signal:
            return Filtered(masks, events=tuple(ended))
        levels, found = (None, []) if masks is None else self._found(masks, prepared.letterbox)
        if not found and not self._tracker.tracks:
            return Filtered(masks, events=tuple(ended))
        followed = _largest(found)
        shapes = [found[index].shape(label, levels) for index, label in followed] if levels is not None else []
        owners, gone = self._tracker.update(shapes)
        ended += self._ended(gone)
        if masks is not None and self._hysteresis:
            shown = {number for number, owner in zip(followed, owners, strict=True) if owner is not None and owner.is_confirmed}
            masks = self._hidden(masks, found, shown)
        tracks = self._tracks(prepared, frame)
        events = [*ended, *(running.event for running in self._running.values())]
        return Filtered(masks, tracks, tuple(sorted(events, key=attrgetter("id"))))

    def pixels(self, track_id: int) -> Shape:
        """Where a track of the newest frame is, at the network's size. Raises StopIteration where that frame shows no such track."""
        return next(track.shape for track, running in self._running.items() if running.event.id == track_id and track.is_here)

    def _found(self, masks: Masks, letterbox: Letterbox) -> tuple[Uint8, list[Components]]:
        """Probability x 255 of what is marked, and the components of each class that is there; nothing outside the picture counts."""
        height, width = letterbox.content_hw
        mask, confidence = masks.mask[0, :height, :width], masks.confidence[0, :height, :width]
        if self._classes > 2:
            marked = [components_of(where_class(mask, index), index) for index in range(1, self._classes)]
            return confidence, [components for components in marked if components is not None]
        foreground = confidence ^ (mask - 1)  # the mask is 0 or 1: this is 255 - confidence where it is 0
        components = components_of(np.greater_equal(foreground, self._cut).view(np.uint8), 1)
        return foreground, [] if components is None else [components]

    def _hidden(self, masks: Masks, found: list[Components], shown: set[tuple[int, int]]) -> Masks:
        """Without the components whose (index in `found`, label) is not in `shown`.

        Two classes: their foreground becomes the highest that does not count, so that no interpolation between pixels can count either.
        More: they become background of confidence 0, as its probability is not known.
        """
        if len(shown) == sum(len(components.areas) - 1 for components in found):
            return masks
        masks = Masks(masks.mask.copy(), masks.confidence.copy())
        for index, components in enumerate(found):
            hides = np.array([label > 0 and (index, label) not in shown for label in range(len(components.areas))])
            where = hides[components.labels]
            np.copyto(masks.mask[0][components.window], 0, where=where)
            np.copyto(masks.confidence[0][components.window], 0 if self._classes > 2 else 256 - self._cut, where=where)
        return masks

    def _tracks(self, prepared: Prepared, frame: Frame) -> tuple[Track, ...]:
        """The confirmed tracks that this frame shows, each noted in its event."""
        tracks = []
        for track in self._tracker.tracks:
            if track.is_here and track.is_confirmed:
                running = self._running.get(track)
                if running is None:
                    self._events += 1
                seen = _scaled(track.shape, prepared, self._events if running is None else running.event.id)
                self._running[track] = _noted(running, seen, frame)
                tracks.append(seen)
        return tuple(sorted(tracks, key=attrgetter("id")))

    def _ended(self, gone: list[Followed]) -> list[Event]:
        ended = [self._running.pop(track) for track in gone if track in self._running]
        return [replace(running.event, ended_s=running.last_s) for running in ended]


def _largest(found: list[Components]) -> list[tuple[int, int]]:
    """Index in `found` and label of the components that are followed, the largest first."""
    each = [(-area, index, label) for index, components in enumerate(found) for label, area in enumerate(components.areas) if label]
    return [(index, label) for _, index, label in sorted(each)[:_REGIONS_FOLLOWED]]


def _noted(running: _Running | None, track: Track, frame: Frame) -> _Running:
    """The event of a track with one more frame that shows it."""
    time_s, score = float(frame.time), track.area * track.confidence
    if running is None:
        event = Event(track.id, track.class_index, time_s, None, 0, track.area, track.confidence, frame.index, time_s)
        running = _Running(event, time_s, score)
    event = replace(running.event, frames=running.event.frames + 1, confidence=max(running.event.confidence, track.confidence))
    if score > running.best_score:
        event = replace(event, peak_area=track.area, best_frame=frame.index, best_time_s=time_s)
    return _Running(event, time_s, max(score, running.best_score))


def _scaled(shape: Shape, prepared: Prepared, event_id: int) -> Track:
    """A shape at the network's size as a track in pixels of the frame; its box holds every pixel that it touches."""
    (area_x, area_y, area_w, area_h), (content_h, content_w) = prepared.area, prepared.letterbox.content_hw
    x, y, width, height = shape.box
    left, right = x * area_w // content_w, -(-(x + width) * area_w // content_w)
    top, bottom = y * area_h // content_h, -(-(y + height) * area_h // content_h)
    pixels = max(1, round(shape.area * area_h * area_w / (content_h * content_w)))
    box = (area_x + left, area_y + top, right - left, bottom - top)
    return Track(event_id, shape.class_index, box, pixels, shape.confidence)
