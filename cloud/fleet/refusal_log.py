"""Log and count refused messages with bounded output and memory, however many there are."""

from __future__ import annotations

import logging
import time
from collections import Counter

LINES_A_SECOND = 20
MOST_NAMES = 200  # fields counted separately; hostile messages may contain any names
OTHER = "other"
_log = logging.getLogger(__name__)


class RefusalLog:
    """Logs at most ``LINES_A_SECOND`` warnings; the next line says how many were left out."""

    def __init__(self) -> None:
        self._second = 0
        self._said = 0
        self._left_out = 0

    def warn(self, text: str) -> None:
        """Log ``text`` as a warning, or count it as left out."""
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
    """Count ``name``; under ``OTHER`` if there are too many names already."""
    counts[name if name in counts or len(counts) < MOST_NAMES else OTHER] += 1
