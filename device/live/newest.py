"""A bounded queue between threads that drops the oldest of those items that may be lost."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """A queue of two kinds of items, at most ``limit`` of each.

    If there is no room, an item added by ``put_newest`` replaces the oldest of its kind, which
    ``dropped`` counts, and ``put`` waits. A closed queue accepts no items and returns those it has.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._newest: deque[T] = deque()
        self._kept: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._failure: Exception | None = None
        self._kept_next = False
        self.dropped = 0

    @property
    def closed(self) -> bool:
        """Whether the queue accepts no more items."""
        return self._closed

    def put_newest(self, item: T) -> bool:
        """Add an item, replacing the oldest if there is no room; returns False if closed."""
        with self._changed:
            if self._closed:
                return False
            if len(self._newest) == self._limit:
                self._newest.popleft()
                self.dropped += 1
            self._newest.append(item)
            self._changed.notify_all()
        return True

    def put(self, item: T) -> bool:
        """Wait for room and add an item; returns False if closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._kept) < self._limit)
            if self._closed:
                return False
            self._kept.append(item)
            self._changed.notify_all()
        return True

    def take(self, wait_s: float | None = None) -> T | None:
        """Return the oldest item, alternating between the kinds.

        Returns None after ``wait_s``, or if the queue is closed and empty. Raises the ``failure``
        passed to ``close`` when it is empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._newest or self._kept, wait_s)
            self._kept_next = not self._kept_next
            kinds = (self._kept, self._newest) if self._kept_next else (self._newest, self._kept)
            for items in kinds:
                if items:
                    self._changed.notify_all()
                    return items.popleft()
            if self._failure is not None:
                raise self._failure
            return None

    def close(self, failure: Exception | None = None) -> None:
        """Close the queue; ``failure`` is the error that ended it, if any."""
        with self._changed:
            self._closed = True
            self._failure = self._failure or failure
            self._changed.notify_all()

    def wait_closed(self, wait_s: float) -> bool:
        """Wait for at most ``wait_s`` until the queue is closed; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, wait_s)
