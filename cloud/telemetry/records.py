"""What a recorder needs of a telemetry store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.fleet.messages import Desired, Message, Topic

Ranges = tuple[tuple[int, int], ...]  # sequence numbers, (first, last), both in, ascending


@dataclass(frozen=True, slots=True)
class Received:
    """A message that was read and checked, and its arrival by the recorder's clock (since 1970)."""

    topic: Topic
    message: Message
    received_s: float


@dataclass(frozen=True, slots=True)
class Appended:
    """How many messages of telemetry of a batch were new, and how many were stored already."""

    stored: int = 0
    duplicates: int = 0


class TelemetryStore(Protocol):
    """Where received messages go. The recorder is its one writer.

    Messages are acknowledged to the broker only after ``append`` has returned, so what
    ``append`` returned from must survive a ``kill -9``. Telemetry is kept once for each
    (fleet, device, epoch, sequence); of births, deaths and reported states the newest counts (by
    ``session``, then by arrival), and a history may be kept.
    """

    async def append(self, batch: Sequence[Received]) -> Appended:
        """Commit ``batch`` in one transaction; the same batch again changes nothing."""

    async def sequences(self, fleet: str) -> Mapping[tuple[str, str], Ranges]:
        """Return the numbers by (device, epoch) that are stored, or were before retention."""

    async def desired(self, fleet: str) -> Mapping[str, Desired]:
        """Return the last desired state of each device."""

    async def newest_s(self, fleet: str) -> float:
        """Return the arrival of the newest telemetry; 0 without any."""

    async def retire(self, fleet: str, device: str) -> None:
        """Forget the last states of a device; its telemetry stays."""
