"""Received messages for tests of the telemetry store."""

from __future__ import annotations

from collections.abc import Iterable

from cloud.telemetry.records import Received
from shared.fleet.messages import (
    PROTOCOL,
    Birth,
    Death,
    DeviceSettings,
    MessageKind,
    Reported,
    Telemetry,
    Topic,
)

BEGAN_S = 1_700_000_000.0


def said(message: Birth | Death | Reported, received_s: float, fleet: str = "city") -> Received:
    """A birth, death or reported state."""
    kind = MessageKind(type(message).__name__.lower())
    return Received(Topic(fleet, message.device, kind), message, received_s)


def sent(
    device: str, sequence: int, received_s: float | None = None, fleet: str = "city"
) -> Received:
    """Telemetry of one minute; ``received_s`` is by default as many minutes in as its number."""
    unix_s = BEGAN_S + 60.0 * sequence
    message = Telemetry(
        device, 1, sequence, unix_s, 60.0, battery=0.5, fraction=0.25, cloud_fraction=1.0,
        answered_device=2, answered_cloud=6, failed=1, labelled=8, right=6, payload_bytes=300,
        energy_j=0.5, latency_ms=4.0, latency_max_ms=20.0, model="digits",
    )  # fmt: skip
    topic = Topic(fleet, device, MessageKind.TELEMETRY)
    return Received(topic, message, unix_s if received_s is None else received_s)


def series(device: str, sequences: Iterable[int]) -> list[Received]:
    """Telemetry with these numbers."""
    return [sent(device, number) for number in sequences]


def birth(device: str, session: int = 1, groups: tuple[str, ...] = ()) -> Birth:
    """A birth."""
    return Birth(device, session, 1, BEGAN_S, PROTOCOL, groups=groups)


def reported(device: str, version: int, fraction: str = "0.5", session: int = 1) -> Reported:
    """A reported state."""
    return Reported(device, session, version, DeviceSettings(fraction=fraction))
