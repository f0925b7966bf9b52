"""Sums over a device's recent and earlier telemetry, in constant memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloud.telemetry.sums import Sums, Values, add_up, plus, sums_of, values_of
from shared.fleet.messages import Telemetry

_NONE = Sums()
RECENT = 20  # at least this many messages count as recent, at most twice as many


@dataclass
class Recent:
    """Sums over the telemetry of one device with its present version of the model."""

    before: Sums = _NONE  # messages older than those of ``now``
    _model: tuple[str, str] = ("", "")
    _last: Sums = _NONE  # the ``RECENT`` messages before those of ``_current``
    _current: Values = ()  # plain fields, which are quicker to add to than ``Sums``
    _now: Sums | None = None

    def add(self, message: Telemetry) -> None:
        """Add a message; a message from another model or version resets all sums."""
        model = message.model, message.model_version
        if model != self._model:
            self._model = model
            self.before = self._last = _NONE
            self._current = ()
        values = values_of(message)
        if self._current and self._current[0] == RECENT:
            self.before = add_up((self.before, self._last))
            self._last, self._current = sums_of(self._current), ()
        self._current = plus(self._current, values) if self._current else values
        self._now = None

    @property
    def now(self) -> Sums:
        """Sums over the last ``RECENT`` to 2 * ``RECENT`` messages; cached until the next
        message.
        """
        if self._now is None:
            self._now = add_up((self._last, sums_of(self._current)))
        return self._now
