"""Which of a server's wishes for another look a client follows. No I/O.

A server may be wrong or hostile: it may ask for levels that do not exist, or at every sample. What
it can cost is bounded: one more look at a sample, at the level of the client's own plan, and not
much more often than the plan expects.
"""

from __future__ import annotations

import logging
from collections import Counter

from shared.protocol.messages import Looks, More

SLACK = 0.25  # share of the samples, beyond what the plan expects: real pictures may be harder
BURST = 32.0  # looks that may come in a row
_log = logging.getLogger(__name__)


class Asks:
    """Follows wishes, or refuses and counts them in ``refused`` by the reason.

    ``unanswered`` counts second looks without an answer.
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.unanswered = 0
        self._credit = BURST

    def follow(
        self, more: More | None, looks: Looks | None, samples: int, expected: float | None
    ) -> tuple[int, ...]:
        """The places of those of ``samples`` at which to look again.

        ``looks`` is what the request said; ``expected`` is the share that its plan expects.
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
