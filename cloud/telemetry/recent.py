"""What a device did lately, and before that, in constant room. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cloud.telemetry.sums import Sums, Values, add_up, plus, sums_of, values_of
from shared.fleet.messages import Telemetry

_NONE = Sums()
RECENT = 20  # messages that count as now, and up to as many again


@dataclass
class Recent:
    """Sums over the telemetry of one device with the version of the model that it works with."""

    before: Sums = _NONE  # all that is older than ``now``
    _model: tuple[str, str] = ("", "")
    _last: Sums = _NONE  # of the ``RECENT`` messages before those of ``_current``
    _current: Values = ()  # the fields of sums: quicker to add to
    _now: Sums | None = None

    def add(self, message: Telemetry) -> None:
        """Take a message; one of another model begins anew."""
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
        """The last ``RECENT`` messages and up to as many again; added up once for each message."""
        if self._now is None:
            self._now = add_up((self._last, sums_of(self._current)))
        return self._now
