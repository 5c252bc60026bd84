"""Which region of this frame is which region of the frames before."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from operator import attrgetter

from qtseg_edge.runtime.temporal.regions import Shape, common_pixels, together

# A track that was not seen in so many frames is gone; one that was seen in CONFIRM of the last so many is believed
# (docs/decisions/0016-temporal-filter.md).
WINDOW = 6
CONFIRM = 3
SPECK_PIXELS = 8  # at the network's size: what is smaller starts no track, but may be a part of one
_SHARE = 0.1  # of a shape that has to lie where its track was: a speck that a flash happens to cover vouches for nothing
_REACH = 1.5  # mean sides that a shape may have jumped since it was last seen
_GROWTH = 3.0  # how much larger or smaller it may have become in a jump


class Followed:
    """A track: its last shape, and its shapes in the last WINDOW frames, None in those where it was not seen."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.is_confirmed = False
        self._past: deque[Shape | None] = deque(maxlen=WINDOW)

    def note(self, parts: list[Shape], confirm: int) -> None:
        """parts: of the newest frame, empty where it is not seen."""
        if parts:
            self.shape = together(parts)
        self._past.append(self.shape if parts else None)
        self.is_confirmed |= len(self._seen) >= confirm

    @property
    def is_here(self) -> bool:
        """Seen in the newest frame."""
        return self._past[-1] is not None

    @property
    def is_gone(self) -> bool:
        return not self._seen

    @property
    def places(self) -> list[Shape]:
        """Where it may be found again: its last shape and its largest. What breaks down to a few pixels and comes back is the same."""
        largest = max(self._seen, key=attrgetter("area"))
        return [self.shape] if largest is self.shape else [self.shape, largest]

    @property
    def _seen(self) -> list[Shape]:
        return [shape for shape in self._past if shape is not None]


class Tracker:
    """Follows the shapes of one stream. confirm: in how many of the last WINDOW frames a track must be seen to be believed from then on."""

    def __init__(self, confirm: int) -> None:
        self._confirm = confirm
        self.tracks: list[Followed] = []

    def update(self, shapes: list[Shape]) -> tuple[list[Followed | None], list[Followed]]:
        """shapes: of the newest frame. Returns the track of each, None for a speck that belongs to none, and the tracks that are gone.

        At most one new track per shape, and none lives unseen for more than WINDOW frames: their number is bounded.
        """
        owners = _matched(shapes, self.tracks)
        for number, shape in enumerate(shapes):
            if owners[number] is None and shape.area >= SPECK_PIXELS:
                owners[number] = Followed(shape)
        parts: dict[Followed, list[Shape]] = {}
        for owner, shape in zip(owners, shapes, strict=True):
            if owner is not None:
                parts.setdefault(owner, []).append(shape)
        known = set(self.tracks)
        self.tracks += [owner for owner in parts if owner not in known]
        for track in self.tracks:
            track.note(parts.get(track, []), self._confirm)
        gone = [track for track in self.tracks if track.is_gone]
        self.tracks = [track for track in self.tracks if not track.is_gone]
        return owners, gone

    def forget(self) -> list[Followed]:
        """Begin anew. Returns the tracks there were."""
        gone, self.tracks = self.tracks, []
        return gone


def _matched(shapes: list[Shape], tracks: list[Followed]) -> list[Followed | None]:
    """The track of every shape. What was confirmed comes first: its regions must not be held back for the sake of a new track.

    Specks join only what is confirmed.
    """
    owners: list[Followed | None] = [None] * len(shapes)
    confirmed, others = ([track for track in tracks if track.is_confirmed is wanted] for wanted in (True, False))
    for rank, least in ((confirmed, 0), (others, SPECK_PIXELS)):
        pairs = _best_first(shapes, rank, owners, least, _overlap)
        _one_to_one(pairs, owners)
        for number, track in pairs:  # a lesion that falls into parts is still one
            owners[number] = owners[number] or track
    for rank in (confirmed, others):
        absent = [track for track in rank if track not in owners]
        _one_to_one(_best_first(shapes, absent, owners, SPECK_PIXELS, _nearness), owners)
    return owners


def _one_to_one(pairs: list[tuple[int, Followed]], owners: list[Followed | None]) -> None:
    taken: set[Followed] = set()
    for number, track in pairs:
        if owners[number] is None and track not in taken:
            owners[number] = track
            taken.add(track)


def _best_first(
    shapes: list[Shape], tracks: list[Followed], owners: list[Followed | None], least: int, fit: Callable[[Shape, Followed], float]
) -> list[tuple[int, Followed]]:
    """The pairs of a shape of at least `least` pixels that has no track yet and a track that it fits; of equals the older track first,
    then the larger shape.
    """
    fits = [
        (-value, age, number)
        for number, shape in enumerate(shapes)
        if owners[number] is None and shape.area >= least
        for age, track in enumerate(tracks)
        if shape.class_index == track.shape.class_index and (value := fit(shape, track)) > 0
    ]
    return [(number, tracks[age]) for _, age, number in sorted(fits)]


def _overlap(shape: Shape, track: Followed) -> float:
    """Intersection over union with the track's last shape or its largest, whichever fits better; 0 where too little is common."""
    return max(_common_share(shape, place) for place in track.places)


def _common_share(shape: Shape, place: Shape) -> float:
    common = common_pixels(shape, place)
    return common / (shape.area + place.area - common) if common >= _SHARE * shape.area else 0.0


def _nearness(shape: Shape, track: Followed) -> float:
    """From 1, at the same place, to 0, out of reach or no longer alike."""
    last = track.shape
    if max(shape.area, last.area) > _GROWTH * min(shape.area, last.area):
        return 0.0
    (ax, ay, aw, ah), (bx, by, bw, bh) = shape.box, last.box
    distance = math.hypot(ax + aw / 2 - bx - bw / 2, ay + ah / 2 - by - bh / 2)
    return 1 - distance / (_REACH * (math.sqrt(shape.area) + math.sqrt(last.area)) / 2)
