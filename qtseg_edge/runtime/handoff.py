"""A bounded hand-off between two threads that cannot hang: either side can end it, and the other learns of it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Policy = Literal["latest", "all"]


class HandoffClosedError(Exception):
    """The other side has ended the hand-off: there is nothing more to take, or nobody left to give to."""


class Handoff(Generic[T]):
    """`all` makes the giver wait while `capacity` items are pending; `latest` drops the oldest one instead and tells `on_drop`.

    changed: shared by hand-offs that one thread takes from together, with `take_ready`.
    """

    def __init__(
        self,
        capacity: int,
        policy: Policy,
        on_drop: Callable[[T], None] = lambda _: None,
        changed: threading.Condition | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._policy = policy
        self._on_drop = on_drop
        self._changed = changed or threading.Condition()
        self._finished = False

    @property
    def is_full(self) -> bool:
        return len(self._items) >= self._capacity

    @property
    def is_over(self) -> bool:
        """Ended, and nothing is left to take."""
        return self._finished and not self._items

    def put(self, item: T) -> None:
        """Raises HandoffClosedError when either side has ended it."""
        dropped: list[T] = []
        with self._changed:
            if self._policy == "all":
                self._changed.wait_for(lambda: self._finished or len(self._items) < self._capacity)
            elif len(self._items) == self._capacity and not self._finished:
                dropped.append(self._items.popleft())
            if self._finished:
                raise HandoffClosedError
            self._items.append(item)
            self._changed.notify_all()
        for late in dropped:
            self._on_drop(late)

    def get(self, timeout: float | None = None) -> T:
        """Raises HandoffClosedError once it is ended and empty, TimeoutError after `timeout` seconds without an item."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._finished or bool(self._items), timeout):
                raise TimeoutError
            if not self._items:
                raise HandoffClosedError
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self) -> None:
        """The giver is done: what is pending can still be taken."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """The run is over: what is pending is thrown away and both sides stop waiting."""
        with self._changed:
            self._finished = True
            self._items.clear()
            self._changed.notify_all()


def take_ready(handoffs: Sequence[Handoff[T]]) -> list[T]:
    """Wait for any of them, then take one item of each that has one. They share one `changed`.

    Raises HandoffClosedError once all are ended and empty.
    """
    changed = handoffs[0]._changed
    with changed:
        changed.wait_for(lambda: any(handoff._items for handoff in handoffs) or all(handoff._finished for handoff in handoffs))
        items = [handoff._items.popleft() for handoff in handoffs if handoff._items]
        if not items:
            raise HandoffClosedError
        changed.notify_all()
        return items
