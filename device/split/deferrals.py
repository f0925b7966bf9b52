"""Samples that a server refused for now: when to try each again, and when to stop. No I/O."""

from __future__ import annotations

FIRST_S = 1.0
LONGEST_S = 3600.0
GIVE_UP_S = 86_400.0


class Deferrals:
    """Waits that double, from ``FIRST_S`` to ``LONGEST_S``, for each sample by its number.

    They are kept in memory: a client that starts again tries every sample at once.
    """

    def __init__(self) -> None:
        self._refused: dict[int, tuple[float, float, float]] = {}  # first refused, due, next wait

    def defer(self, number: int, now_s: float) -> bool:
        """Let a refused sample wait; False if it has been refused for ``GIVE_UP_S``."""
        first_s, _, wait_s = self._refused.get(number, (now_s, now_s, FIRST_S))
        if now_s - first_s >= GIVE_UP_S:
            self.forget(number)
            return False
        self._refused[number] = (first_s, now_s + wait_s, min(2 * wait_s, LONGEST_S))
        return True

    def forget(self, number: int) -> None:
        """Drop what is known of a sample that was answered or set aside."""
        self._refused.pop(number, None)

    def clear(self) -> None:
        """Drop what is known of all: each may be tried at once."""
        self._refused.clear()

    def waiting(self, now_s: float) -> frozenset[int]:
        """The samples that are not due yet."""
        return frozenset(number for number, (_, due_s, _) in self._refused.items() if due_s > now_s)
