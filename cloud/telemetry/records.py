"""The interface between a recorder and its telemetry store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.fleet.messages import Desired, Message, Topic

Ranges = tuple[tuple[int, int], ...]  # sequence numbers: (first, last) inclusive, ascending


@dataclass(frozen=True, slots=True)
class Received:
    """A checked message and its arrival by the recorder's clock, in seconds since 1970."""

    topic: Topic
    message: Message
    received_s: float


@dataclass(frozen=True, slots=True)
class Appended:
    """Numbers of telemetry messages of a batch that were new, and that were stored already."""

    stored: int = 0
    duplicates: int = 0


class TelemetryStore(Protocol):
    """Stores received messages. The recorder is its only writer.

    Messages are acknowledged to the broker after ``append`` has returned, so from then on they
    must survive a ``kill -9``. Telemetry is stored once for each (fleet, device, epoch, sequence).
    Of births, deaths and reported states the newest is kept (by ``session``, then by arrival); a
    history may be kept too.
    """

    async def append(self, batch: Sequence[Received]) -> Appended:
        """Commit ``batch`` in one transaction; appending it again changes nothing."""

    async def sequences(self, fleet: str) -> Mapping[tuple[str, str], Ranges]:
        """Return all sequence numbers ever stored, by (device, epoch), including expired ones."""

    async def desired(self, fleet: str) -> Mapping[str, Desired]:
        """Return the last desired state of each device."""

    async def newest_s(self, fleet: str) -> float:
        """Return the arrival of the newest telemetry; 0 without any."""

    async def retire(self, fleet: str, device: str) -> None:
        """Delete the last states of a device; its telemetry stays."""
