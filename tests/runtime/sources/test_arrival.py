from __future__ import annotations

from fractions import Fraction

import pytest

from qtseg_edge.runtime.sources.arrival import ArrivalClock

MS = Fraction(1, 1000)


def lags(clock: ArrivalClock, packets: list[tuple[float, float]]) -> list[float]:
    """How old every packet is said to be when it arrives. packets: (sender's seconds, arrival)."""
    return [now - clock.arrived(round(stamp * 1000), now) for stamp, now in packets]


def steady(seconds: float, start: float = 0.0, drift: float = 0.0) -> list[tuple[float, float]]:
    """25 a second; the sender's clock is too fast by `drift`."""
    return [((start + index / 25) * (1 + drift), 100 + start + index / 25) for index in range(round(seconds * 25))]


def test_what_comes_in_time_is_not_old() -> None:
    assert max(lags(ArrivalClock(MS), steady(10))) < 0.001


def test_what_was_held_up_is_as_old_as_it_is() -> None:
    held = [(10 + index / 25, 113.0) for index in range(75)]  # three seconds of pictures come together
    came = lags(ArrivalClock(MS), steady(10) + held + steady(2, 13))
    assert came[250] == pytest.approx(3, abs=0.1)
    assert came[250 + 37] == pytest.approx(1.52, abs=0.1)
    assert max(came[325:]) < 0.1


def test_a_lag_that_grows_by_more_than_a_clock_can_be_wrong_is_seen() -> None:
    slow = [(10 + index / 25, 110 + 1.2 * index / 25) for index in range(250)]  # a fifth too slow for ten seconds
    assert lags(ArrivalClock(MS), steady(10) + slow)[-1] > 1.5


@pytest.mark.parametrize("drift", [-0.015, 0.015, 0.1])
def test_a_sender_whose_clock_is_wrong_does_not_grow_old(drift: float) -> None:
    assert max(lags(ArrivalClock(MS), steady(600, drift=drift))) < 0.01


@pytest.mark.parametrize("jump", [-3600.0, -0.6, 0.6, 3600.0])
def test_a_sender_that_sets_its_clock_does_not_make_pictures_old(jump: float) -> None:
    after = [(stamp + jump, now) for stamp, now in steady(10, 10)]
    assert max(lags(ArrivalClock(MS), steady(10) + after)) < 0.1


def test_pictures_that_never_came_make_none_old() -> None:
    assert max(lags(ArrivalClock(MS), steady(10) + steady(10, 14))) < 0.1


def test_a_lag_is_seen_although_pictures_come_out_of_order() -> None:
    """As with B-frames: 0 3 1 2 6 4 5."""
    order = [3 * group + offset for group in range(100) for offset in (3, 1, 2)]
    in_time = [(number / 25, 100 + index / 25) for index, number in enumerate(order)]
    held = [((300 + number) / 25, 100 + 12 + 2 + 0.001 * index) for index, number in enumerate(order[:60])]
    came = lags(ArrivalClock(MS), in_time + held)
    assert max(came[:300]) < 0.2
    assert came[300] > 1.8
    assert came[330] > 0.7


def test_nothing_is_old_where_the_stamps_are_not_the_senders() -> None:
    clock = ArrivalClock(None)
    assert clock.is_current
    assert lags(clock, [(0, 100), (0.04, 200), (0.08, 300)]) == [0, 0, 0]


def test_what_piled_up_before_the_reading_is_not_current() -> None:
    clock = ArrivalClock(MS)
    states = []
    for stamp, now in [(index / 25, 100 + index * 0.001) for index in range(20)] + steady(1, 0.8):
        clock.arrived(round(stamp * 1000), now)
        states.append(clock.is_current)
    assert not any(states[:20])
    assert all(states[23:])


def test_a_sender_that_is_always_too_fast_is_current_in_the_end() -> None:
    clock = ArrivalClock(MS)
    lags(clock, [(index / 25, 100 + index / 100) for index in range(250)])
    assert clock.is_current


def test_a_picture_gets_the_time_of_its_packet_once() -> None:
    clock = ArrivalClock(MS)
    clock.arrived(0, 100.0)
    clock.arrived(40, 100.04)
    assert clock.captured_at(40, 7.0) == pytest.approx(100.04)
    assert clock.captured_at(40, 7.0) == 7.0
    assert clock.captured_at(None, 7.0) == 7.0
    assert clock.arrived(None, 8.0) == 8.0


def test_packets_without_a_picture_are_forgotten() -> None:
    clock = ArrivalClock(MS)
    lags(clock, steady(100))
    assert len(clock._captured) <= 64
