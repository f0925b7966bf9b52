"""The identity of a device: its names, its kind, its software."""

from __future__ import annotations

from dataclasses import dataclass

from shared.fleet.messages import MessageKind, Topic
from shared.version import installed_version


def software() -> str:
    """Return name and version of this package."""
    return f"taper {installed_version()}"


@dataclass(frozen=True)
class AgentIdentity:
    """Name and kind of a device."""

    fleet: str
    device: str
    groups: tuple[str, ...] = ()
    hardware: str = ""
    simulated: bool = False

    def topic(self, kind: MessageKind) -> str:
        """Return the device's topic of ``kind``."""
        return str(Topic(self.fleet, self.device, kind))
