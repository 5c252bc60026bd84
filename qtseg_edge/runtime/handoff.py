"""A bounded hand-off between two threads that cannot hang: either side can end it, and the other learns of it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Policy = Literal["latest", "all"]


class HandoffClosedError(Exception):
    """The other side has ended the hand-off: there is nothing more to take, or nobody left to give to."""


class Handoff(Generic[T]):
    """`all` makes the giver wait while `capacity` items are pending; `latest` drops the oldest one instead and counts it."""

    def __init__(self, capacity: int, policy: Policy) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._policy = policy
        self._changed = threading.Condition()
        self._finished = False
        self.dropped = 0

    def put(self, item: T) -> None:
        """Raises HandoffClosedError when either side has ended it."""
        with self._changed:
            if self._policy == "all":
                self._changed.wait_for(lambda: self._finished or len(self._items) < self._capacity)
            elif len(self._items) == self._capacity and not self._finished:
                self._items.popleft()
                self.dropped += 1
            if self._finished:
                raise HandoffClosedError
            self._items.append(item)
            self._changed.notify_all()

    def get(self) -> T:
        """Raises HandoffClosedError once it is ended and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._finished or bool(self._items))
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
