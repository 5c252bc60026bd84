"""The events that the page lists, also where the output was too slow for some results."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from qtseg_edge.runtime.results import Result
from qtseg_edge.runtime.temporal.events import Event, Track
from qtseg_edge.runtime.web.event_list import EventList
from tests.runtime.stand_ins import COLOURS, result_of

EVENT = Event(1, 1, 0.0, None, 1, 100, 0.9, 0, 0.0)


def listed(live: bool = False) -> EventList:
    return EventList(live, COLOURS[:2], Fraction(1))


def result(index: int, *events: Event, area: int = 0) -> Result:
    """At 25 frames a second. area: of the regions that this frame shows of its events."""
    tracks = tuple(Track(event.id, event.class_index, (0, 0, 10, 10), area, 0.9) for event in events if area)
    return replace(result_of(np.full((48, 64, 3), index % 256, np.uint8), index=index), events=events, tracks=tracks)


def test_an_event_of_a_file_has_the_time_of_the_file() -> None:
    events = listed()
    events.note(result(0, EVENT, area=100))
    events.note(result(25, replace(EVENT, frames=26), area=50))
    (row,) = events.rows()
    assert (row["class"], row["started_s"], row["started_at"], row["is_open"], row["duration_s"]) == ("polyp", 0.0, None, True, 1.0)
    events.note(result(30, replace(EVENT, ended_s=1.0)))
    (row,) = events.rows()
    assert (row["is_open"], row["is_exact"], row["duration_s"]) == (False, True, 1.0)


def test_an_end_that_never_came_here_is_told_as_about() -> None:
    events = listed()
    events.note(result(0, EVENT, area=100))
    events.note(result(10, EVENT, area=100))
    events.note(result(40))  # what ended it was among the results between
    (row,) = events.rows()
    assert (row["is_open"], row["is_exact"], row["duration_s"]) == (False, False, 0.4)


def test_the_picture_is_of_the_best_frame_that_came_here() -> None:
    events = listed()
    for index, area in ((0, 50), (1, 80), (2, 60)):
        events.note(result(index, EVENT, area=area))
    assert events.rows()[0]["picture"] == 1
    best = events.picture(1)
    events.note(result(3, EVENT))  # it goes on, unseen
    assert events.rows()[0]["picture"] == 1 and events.picture(1) == best and best


def test_memory_is_bounded_and_what_is_open_is_kept() -> None:
    events = listed()
    events.note(result(0, EVENT, area=100))
    for number in range(2, 300):
        events.note(result(number, EVENT, replace(EVENT, id=number), area=100))
        events.note(result(number, EVENT, replace(EVENT, id=number, ended_s=1.0)))
    rows = events.rows()
    assert len(rows) == 50 and [row["id"] for row in rows] == [*range(299, 250, -1), 1]
    assert rows[-1]["is_open"] and events.picture(1) and events.picture(200) is None


def test_nothing_is_done_where_nothing_happens() -> None:
    events = listed()
    for index in range(5):
        events.note(result(index))
    assert events.revision == 0 and events.rows() == []


def test_the_end_of_the_run_ends_what_is_open() -> None:
    events = listed(live=True)
    events.note(result(0, EVENT, area=100))
    events.end_all()
    (row,) = events.rows()
    assert not row["is_open"] and row["started_at"] is not None
