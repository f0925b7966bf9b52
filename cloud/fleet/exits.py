"""Statistics of the devices' exit heads: audited accuracy, and drift without labels. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from cloud.telemetry.estimates import Estimate, drift
from cloud.telemetry.recent import Recent
from cloud.telemetry.sums import Sums, add_up
from shared.fleet.messages import Message, Telemetry, Topic


@dataclass
class FleetExits:
    """Recent and earlier statistics of each device; ``see`` is a listener of a ``FleetClient``."""

    histories: defaultdict[str, Recent] = field(default_factory=lambda: defaultdict(Recent))

    def see(self, topic: Topic, message: Message) -> None:
        """Add a message of a device; only telemetry counts."""
        if isinstance(message, Telemetry):
            self.histories[topic.device].add(message)

    def forget(self, device: str) -> None:
        """Drop a retired device."""
        self.histories.pop(device, None)

    def now(self, names: Iterable[str]) -> Sums:
        """Return sums over the recent telemetry of these devices."""
        known = self.histories
        return add_up(known[name].now for name in names if name in known)

    def drift(self, names: Iterable[str]) -> Estimate | None:
        """Return the change of these devices' mean confidence; None if too little is known."""
        known = self.histories
        return drift((known[name].before, known[name].now) for name in names if name in known)
