"""When an event begins and ends, and what is reported of it."""

from __future__ import annotations

import pytest

from qtseg_edge.runtime.temporal.tracker import CONFIRM, WINDOW
from tests.runtime.temporal.stream import Stream, box, masks_of, nothing

SMALL, LARGE = box(20, 30, 10, 10), box(19, 29, 14, 14)


def test_an_event_counts_the_frames_that_showed_it_and_names_the_best() -> None:
    stream = Stream()
    stream.show(nothing())
    for marked, confidence in ((SMALL, 200), (SMALL, 200), (SMALL, 180), (LARGE, 230), (LARGE, 220), (SMALL, 250)):
        stream.show(marked, confidence)
    (event,) = stream.events
    assert (event.id, event.class_index, event.frames) == (1, 1, 4)
    assert (event.started_s, event.ended_s) == (3 / 25, None)  # the third frame that has it is the first that shows it
    assert (event.peak_area, event.best_frame, event.best_time_s) == (196, 4, 4 / 25)
    assert event.confidence == pytest.approx(250 / 255)  # the highest, though not of the best frame


def test_it_ends_when_it_was_not_seen_for_a_window_at_its_last_frame() -> None:
    stream = Stream()
    for _ in range(5):
        stream.show(SMALL)
    for missing in range(WINDOW):
        assert [event.ended_s for event in stream.events] == [None]
        stream.show(nothing())
        assert (missing < WINDOW - 1) == (stream.events[0].ended_s is None)
    assert [(event.started_s, event.ended_s) for event in stream.events] == [((CONFIRM - 1) / 25, 4 / 25)]
    stream.show(nothing())
    assert stream.events == ()
    assert len(stream.ended) == 1


def test_ids_count_what_was_shown_and_never_come_again() -> None:
    stream = Stream()
    for round_ in range(4):
        for _ in range(CONFIRM):
            filtered = stream.feed(masks_of(SMALL))
        assert [track.id for track in filtered.tracks] == [round_ + 1]
        for _ in range(WINDOW):
            stream.show(nothing())
        stream.show(box(50, 80))  # a flash is no event and takes no number
        for _ in range(WINDOW):
            stream.show(nothing())
    assert [event.id for event in stream.ended] == [1, 2, 3, 4]


def test_a_lost_signal_ends_everything_and_what_comes_after_proves_itself_anew() -> None:
    stream = Stream()
    for _ in range(5):
        stream.show(SMALL)
    lost = stream.feed(None, signal=False)
    assert (lost.masks, lost.tracks) == (None, ())
    assert [event.ended_s for event in lost.events] == [4 / 25]
    assert stream.feed(None, signal=False).events == ()
    assert [stream.show(SMALL).any() for _ in range(CONFIRM)] == [False] * (CONFIRM - 1) + [True]
    assert [event.id for event in stream.events] == [2]


def test_without_a_signal_whatever_the_network_said_is_not_looked_at() -> None:
    stream = Stream()
    for _ in range(2 * WINDOW):
        filtered = stream.feed(masks_of(SMALL), signal=False)
    assert filtered.tracks == filtered.events == ()


def test_a_flat_frame_is_one_without_regions_not_the_end() -> None:
    stream = Stream()
    for _ in range(4):
        stream.show(SMALL)
    assert [event.ended_s for event in stream.feed(None).events] == [None]
    assert stream.show(SMALL).any()
    assert [event.frames for event in stream.events] == [3]


@pytest.mark.parametrize("change", ["size", "file"])
def test_another_size_or_file_ends_all_events_before_its_first_frame(change: str) -> None:
    stream = Stream()
    for _ in range(4):
        stream.show(SMALL)
    if change == "size":
        stream.frame_hw = (128, 96)
    filtered = stream.feed(masks_of(SMALL), source="other.mp4" if change == "file" else "clip.mp4")
    assert [(event.id, event.ended_s) for event in filtered.events] == [(1, 3 / 25)]
    assert filtered.tracks == ()
    assert filtered.masks is not None and not filtered.masks.mask.any()
