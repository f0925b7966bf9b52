"""Retry times of samples that a server refused temporarily. No I/O."""

from __future__ import annotations

FIRST_S = 1.0
LONGEST_S = 3600.0
GIVE_UP_S = 86_400.0


class Deferrals:
    """Waiting times for samples by number, which double from ``FIRST_S`` to ``LONGEST_S``.

    They are only kept in memory, so a restarted client tries every sample at once.
    """

    def __init__(self) -> None:
        self._refused: dict[int, tuple[float, float, float]] = {}  # (first refusal, due, next wait)

    def defer(self, number: int, now_s: float) -> bool:
        """Let a refused sample wait; returns False if it has been refused for ``GIVE_UP_S``."""
        first_s, _, wait_s = self._refused.get(number, (now_s, now_s, FIRST_S))
        if now_s - first_s >= GIVE_UP_S:
            self.forget(number)
            return False
        self._refused[number] = (first_s, now_s + wait_s, min(2 * wait_s, LONGEST_S))
        return True

    def forget(self, number: int) -> None:
        """Drop a sample that has been answered or set aside."""
        self._refused.pop(number, None)

    def clear(self) -> None:
        """Drop all samples, so that each may be tried at once."""
        self._refused.clear()

    def waiting(self, now_s: float) -> frozenset[int]:
        """Return the samples that are not due yet."""
        return frozenset(number for number, (_, due_s, _) in self._refused.items() if due_s > now_s)
