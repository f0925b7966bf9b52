"""What exit heads say now and said before: audits, and drift without labels. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cloud.telemetry.estimates import Estimate, drift
from cloud.telemetry.sums import Sums, add_up
from shared.fleet.messages import Message, Telemetry, Topic

RECENT = 20  # messages that count as now, and up to as many again

_NONE = Sums()


@dataclass
class ExitHistory:
    """The exit head of one device, in the version of the model that it works with."""

    model: tuple[str, str] = ("", "")
    before: Sums = _NONE
    last: Sums = _NONE  # the ``RECENT`` messages before those of ``current``
    current: Sums = _NONE

    def add(self, message: Telemetry) -> None:
        """Take a message; one of another model begins the history anew."""
        model = message.model, message.model_version
        if model != self.model:
            self.model = model
            self.before = self.last = self.current = _NONE
        if self.current.messages == RECENT:
            self.before = _joined(self.before, self.last)
            self.last, self.current = self.current, _NONE
        self.current = replace(
            self.current,
            messages=self.current.messages + 1,
            audited=self.current.audited + message.audited,
            agreed=self.current.agreed + message.agreed,
            exits_asked=self.current.exits_asked + message.exits_asked,
            confidence=self.current.confidence + message.exit_confidence * message.exits_asked,
        )

    @property
    def now(self) -> Sums:
        """The last ``RECENT`` messages and up to as many again."""
        return _joined(self.last, self.current)


def _joined(one: Sums, other: Sums) -> Sums:
    return add_up((one, other)) if one.messages else other


@dataclass
class FleetExits:
    """The exit heads of a fleet; ``see`` is a listener of a ``FleetClient``."""

    histories: defaultdict[str, ExitHistory] = field(
        default_factory=lambda: defaultdict(ExitHistory)
    )

    def see(self, topic: Topic, message: Message) -> None:
        """Take a message of a device."""
        if isinstance(message, Telemetry):
            self.histories[topic.device].add(message)

    def forget(self, device: str) -> None:
        """Drop a device that is retired."""
        self.histories.pop(device, None)

    def now(self, names: Iterable[str]) -> Sums:
        """Return what the exit heads of these devices say now."""
        known = self.histories
        return add_up(known[name].now for name in names if name in known)

    def drift(self, names: Iterable[str]) -> Estimate | None:
        """Return how far their confidence is from what it was; None where too little is known."""
        known = self.histories
        return drift((known[name].before, known[name].now) for name in names if name in known)
