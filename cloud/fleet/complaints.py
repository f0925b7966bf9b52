"""What is said and counted of refused messages: bounded, however many there are."""

from __future__ import annotations

import logging
import time
from collections import Counter

LINES_A_SECOND = 20
MOST_NAMES = 200  # of fields that are counted apart; their names come from the messages
OTHER = "other"
_log = logging.getLogger(__name__)


class Complaints:
    """Logs at most ``LINES_A_SECOND``; how many were left out is said with the next line."""

    def __init__(self) -> None:
        self._second = 0
        self._said = 0
        self._left_out = 0

    def say(self, text: str) -> None:
        """Log ``text`` as a warning, or count that it was left out."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._said = second, 0
        self._said += 1
        if self._said > LINES_A_SECOND:
            self._left_out += 1
            return
        if self._left_out:
            _log.warning("%d more messages were refused", self._left_out)
            self._left_out = 0
        _log.warning("%s", text)


def count(counts: Counter[str], name: str) -> None:
    """Count ``name``, among the others if there are too many names already."""
    counts[name if name in counts or len(counts) < MOST_NAMES else OTHER] += 1
