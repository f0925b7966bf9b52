"""A bounded queue between threads that keeps the newest of what may be lost."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Newest(Generic[T]):
    """Items of two kinds, at most ``limit`` of each.

    A new item of a camera takes the place of the oldest one that nobody has taken; ``dropped``
    counts those. Items that must not be lost wait for room. Closed, the queue takes no more, and
    gives what it still has.
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
        """Whether it takes no more."""
        return self._closed

    def put_newest(self, item: T) -> bool:
        """Add an item in place of the oldest if there is no room; False once closed."""
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
        """Add an item once there is room; False once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._kept) < self._limit)
            if self._closed:
                return False
            self._kept.append(item)
            self._changed.notify_all()
        return True

    def take(self, wait_s: float | None = None) -> T | None:
        """The oldest item, of both kinds in turn; None after ``wait_s``, or if none will come.

        Raises what ``close`` was given, when nothing is left.
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
        """End the queue; ``failure`` says why, if that is an error."""
        with self._changed:
            self._closed = True
            self._failure = self._failure or failure
            self._changed.notify_all()

    def wait_closed(self, wait_s: float) -> bool:
        """Wait ``wait_s``, or less if the queue is closed; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, wait_s)
