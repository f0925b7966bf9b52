"""Check a server's requests for second looks before the client follows them. No I/O.

A server may be faulty or hostile: it may request levels that do not exist, or a second look at
every sample. Its requests are therefore limited to one more look at a sample, at the level of the
client's own plan, and not much more often than the plan expects.
"""

from __future__ import annotations

import logging
from collections import Counter

from shared.protocol.messages import Looks, More

SLACK = 0.25  # allowed share above the plan's expectation, as real pictures may be harder
BURST = 32.0  # second looks that are allowed in a row
_log = logging.getLogger(__name__)


class LookRequests:
    """Accepts requests for second looks, or refuses them and counts them in ``refused`` by reason.

    ``unanswered`` counts second looks that got no answer.
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.unanswered = 0
        self._credit = BURST

    def follow(
        self, more: More | None, looks: Looks | None, samples: int, expected: float | None
    ) -> tuple[int, ...]:
        """Return the indices of those of ``samples`` that get a second look.

        ``more`` is the server's request in its response, None if there is none. ``looks`` is the
        field of the request that it answers. ``expected`` is the share of second looks that the
        client's plan expects; None if unknown.
        """
        planned = looks is not None and looks.earlier == 0
        if planned and expected is not None:
            self._credit = min(self._credit + samples * (expected + SLACK), BURST)
        if more is None:
            return ()
        if looks is None or not planned:
            return self._refuse("unasked", "asks for another look at samples that may have none")
        if more.level != looks.next_level:
            text = f"asks for a look at level {more.level} instead of {looks.next_level}"
            return self._refuse("level", text)
        places = more.samples or tuple(range(samples))
        if list(places) != sorted(set(places)) or places[-1] >= samples:
            text = f"asks for a look at other samples than the {samples} it was sent"
            return self._refuse("samples", text)
        if expected is None:
            return places
        if self._credit < len(places):
            text = f"asks for second looks more often than the {expected:.0%} planned"
            return self._refuse("often", text)
        self._credit -= len(places)
        return places

    def _refuse(self, reason: str, text: str) -> tuple[int, ...]:
        if not self.refused[reason]:
            _log.warning("server: %s; its first answers count", text)
        self.refused[reason] += 1
        return ()
