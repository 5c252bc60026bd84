from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qtseg_edge.runtime.handoff import Handoff, HandoffClosedError, Policy, take_ready

pytestmark = pytest.mark.timeout(20)


class HandoffAgainstList(RuleBasedStateMachine):
    """One thread, never an operation that would wait: what comes out is what a plain list with the same rules gives."""

    @initialize(capacity=st.integers(1, 4), policy=st.sampled_from(["all", "latest"]))
    def start(self, capacity: int, policy: Policy) -> None:
        self.told: list[int] = []
        self.handoff: Handoff[int] = Handoff(capacity, policy, self.told.append)
        self.capacity, self.policy = capacity, policy
        self.pending: list[int] = []
        self.given = 0
        self.dropped: list[int] = []
        self.ended = False

    @precondition(lambda self: self.policy == "latest" or len(self.pending) < self.capacity or self.ended)
    @rule()
    def put(self) -> None:
        self.given += 1
        if self.ended:
            with pytest.raises(HandoffClosedError):
                self.handoff.put(self.given)
            return
        if len(self.pending) == self.capacity:
            self.dropped.append(self.pending.pop(0))
        self.handoff.put(self.given)
        self.pending.append(self.given)

    @precondition(lambda self: bool(self.pending) or self.ended)
    @rule()
    def get(self) -> None:
        if self.pending:
            assert self.handoff.get() == self.pending.pop(0)
            return
        with pytest.raises(HandoffClosedError):
            self.handoff.get()

    @rule()
    def finish(self) -> None:
        self.handoff.finish()
        self.ended = True

    @rule()
    def cancel(self) -> None:
        self.handoff.cancel()
        self.ended = True
        self.pending = []

    @invariant()
    def tells_what_it_dropped(self) -> None:
        if hasattr(self, "handoff"):
            assert self.told == self.dropped


TestHandoffAgainstList = HandoffAgainstList.TestCase
TestHandoffAgainstList.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def started(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def require_ended(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)


def taken_until_closed(handoff: Handoff[int]) -> list[int]:
    taken = []
    try:
        while True:
            taken.append(handoff.get())
    except HandoffClosedError:
        return taken


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_below_one_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, got {capacity}"):
        Handoff(capacity, "all")


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_nothing_is_lost_or_reordered_between_two_threads(capacity: int) -> None:
    dropped: list[int] = []
    handoff: Handoff[int] = Handoff(capacity, "all", dropped.append)

    def give() -> None:
        for number in range(3000):
            handoff.put(number)
        handoff.finish()

    giver = started(give)
    assert taken_until_closed(handoff) == list(range(3000))
    assert dropped == []
    require_ended(giver)


def test_all_makes_the_giver_wait_at_capacity() -> None:
    handoff: Handoff[int] = Handoff(2, "all")
    given = []

    def give() -> None:
        for number in range(4):
            handoff.put(number)
            given.append(number)

    giver = started(give)
    time.sleep(0.1)
    assert given == [0, 1]
    assert handoff.get() == 0
    time.sleep(0.1)
    assert given == [0, 1, 2]
    assert handoff.get() == 1
    require_ended(giver)
    assert given == [0, 1, 2, 3]


def test_latest_never_makes_the_giver_wait_and_keeps_the_newest() -> None:
    dropped: list[int] = []
    handoff: Handoff[int] = Handoff(2, "latest", dropped.append)
    for number in range(10):
        handoff.put(number)
    assert dropped == list(range(8))
    assert [handoff.get(), handoff.get()] == [8, 9]


def test_finish_lets_what_is_pending_be_taken_and_nothing_be_added() -> None:
    handoff: Handoff[int] = Handoff(3, "all")
    handoff.put(1)
    handoff.put(2)
    handoff.finish()
    with pytest.raises(HandoffClosedError):
        handoff.put(3)
    assert taken_until_closed(handoff) == [1, 2]


def test_cancel_throws_away_what_is_pending() -> None:
    dropped: list[int] = []
    handoff: Handoff[int] = Handoff(3, "latest", dropped.append)
    handoff.put(1)
    handoff.cancel()
    assert taken_until_closed(handoff) == []
    assert dropped == []


@pytest.mark.parametrize("end", ["finish", "cancel"])
def test_ending_wakes_one_who_waits_to_take(end: str) -> None:
    handoff: Handoff[int] = Handoff(1, "all")
    taker = started(lambda: taken_until_closed(handoff))  # type: ignore[arg-type, return-value]
    time.sleep(0.05)
    getattr(handoff, end)()
    require_ended(taker)


@pytest.mark.parametrize("end", ["finish", "cancel"])
def test_ending_wakes_one_who_waits_to_give(end: str) -> None:
    handoff: Handoff[int] = Handoff(1, "all")
    handoff.put(0)
    refused = threading.Event()

    def give() -> None:
        try:
            handoff.put(1)
        except HandoffClosedError:
            refused.set()

    giver = started(give)
    time.sleep(0.05)
    assert not refused.is_set()
    getattr(handoff, end)()
    require_ended(giver)
    assert refused.is_set()
    assert taken_until_closed(handoff) == ([0] if end == "finish" else [])


@pytest.mark.parametrize("policy", ["all", "latest"])
def test_many_givers_and_takers_never_deadlock(policy: Policy) -> None:
    dropped: list[int] = []
    handoff: Handoff[int] = Handoff(2, policy, dropped.append)
    taken: list[int] = []
    givers = [started(lambda first=first: [handoff.put(first + n) for n in range(300)]) for first in range(0, 2400, 300)]  # type: ignore[misc]
    takers = [started(lambda: taken.extend(taken_until_closed(handoff))) for _ in range(3)]
    require_ended(*givers)
    handoff.finish()
    require_ended(*takers)
    assert len(taken) + len(dropped) == 2400
    assert len(set(taken)) == len(taken)
    assert policy == "latest" or dropped == []


def test_cancel_frees_every_waiting_giver_and_taker_at_once() -> None:
    full: Handoff[int] = Handoff(1, "all")
    empty: Handoff[int] = Handoff(1, "all")
    full.put(0)

    def give() -> None:
        with pytest.raises(HandoffClosedError):
            full.put(1)

    waiting = [started(give) for _ in range(5)] + [started(lambda: taken_until_closed(empty)) for _ in range(5)]  # type: ignore[arg-type, return-value]
    time.sleep(0.05)
    full.cancel()
    empty.cancel()
    require_ended(*waiting)


def sharing(count: int) -> list[Handoff[int]]:
    changed = threading.Condition()
    return [Handoff(2, "all", changed=changed) for _ in range(count)]


def test_one_item_is_taken_of_each_that_has_one() -> None:
    first, second, third = sharing(3)
    first.put(10)
    first.put(11)
    third.put(30)
    assert take_ready([first, second, third]) == [10, 30]
    second.put(20)
    assert take_ready([first, second, third]) == [11, 20]


def test_taking_of_several_wakes_at_the_first_item_and_frees_a_waiting_giver() -> None:
    first, second = sharing(2)
    taken: list[list[int]] = []
    taker = started(lambda: taken.append(take_ready([first, second])))
    time.sleep(0.05)
    assert taken == []
    second.put(1)
    require_ended(taker)
    assert taken == [[1]]
    first.put(2)
    first.put(3)
    giver = started(lambda: first.put(4))
    time.sleep(0.05)
    assert giver.is_alive()
    assert take_ready([first, second]) == [2]
    require_ended(giver)


def test_taking_of_several_goes_on_until_all_are_ended_and_empty() -> None:
    first, second = sharing(2)
    second.put(1)
    first.finish()
    second.finish()
    assert take_ready([first, second]) == [1]
    with pytest.raises(HandoffClosedError):
        take_ready([first, second])


def test_taking_of_several_is_woken_when_the_last_is_cancelled() -> None:
    first, second = sharing(2)
    ended = threading.Event()

    def take() -> None:
        with pytest.raises(HandoffClosedError):
            take_ready([first, second])
        ended.set()

    taker = started(take)
    first.cancel()
    time.sleep(0.05)
    assert not ended.is_set()
    second.cancel()
    require_ended(taker)


def test_a_taker_is_told_that_nothing_came_in_time() -> None:
    handoff: Handoff[int] = Handoff(1, "all")
    begun = time.perf_counter()
    with pytest.raises(TimeoutError):
        handoff.get(0.05)
    assert 0.05 <= time.perf_counter() - begun < 5
    handoff.put(1)
    assert handoff.get(0.05) == 1
