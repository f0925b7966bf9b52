"""What the controller knows of a fleet: the last word of each device. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cloud.fleet.sequences import Sequences
from shared.errors import UsageError
from shared.fleet.messages import (
    Birth,
    Death,
    Desired,
    Message,
    Reported,
    Settings,
    Telemetry,
    Topic,
)

ALL = "all"
MOST_CHANGES = 1_000_000  # of the desired state of one device


class RefusedError(Exception):
    """A message is well formed and yet cannot be true; says the field and why."""

    def __init__(self, field_name: str, reason: str) -> None:
        super().__init__(f"{field_name}: {reason}")
        self.field = field_name
        self.reason = reason


@dataclass
class DeviceState:
    """The last birth, death, desired and reported state and telemetry of a device."""

    name: str
    birth: Birth | None = None
    death: Death | None = None
    desired: Desired = field(default_factory=lambda: Desired(0))
    reported: Reported | None = None
    telemetry: Telemetry | None = None
    sequences: Sequences = field(default_factory=Sequences)

    @property
    def online(self) -> bool:
        """Whether it is here: born, and not dead since."""
        if self.birth is None:
            return False
        return self.death is None or self.death.session < self.birth.session

    def learn(self, message: Message) -> bool:
        """Take ``message`` in; False if it is telemetry that had come before.

        Raises ``RefusedError`` for what cannot be true.
        """
        match message:
            case Birth():
                if self.birth is None or message.session >= self.birth.session:
                    self.birth = message
                    self.sequences.announce(message.next_sequence)
            case Death():
                self.death = message
            case Reported():
                # Before anything is known to be desired, it may have been by an earlier controller.
                last = self.desired.version or MOST_CHANGES
                if message.version > last:
                    raise RefusedError(
                        "version",
                        f"{message.version} was never desired; {last} is the most",
                    )
                self.reported = message
            case Desired():
                if message.version > self.desired.version:
                    self.desired = message
            case Telemetry():
                if not self.sequences.plausible(message.sequence):
                    raise RefusedError(
                        "sequence", f"{message.sequence} is far ahead of what was announced"
                    )
                if not self.sequences.add(message.sequence):
                    return False
                if self.telemetry is None or message.sequence > self.telemetry.sequence:
                    self.telemetry = message
        return True

    def change(self, settings: Settings) -> Desired:
        """The next desired state."""
        reported = 0 if self.reported is None else self.reported.version
        self.desired = Desired(max(self.desired.version, reported) + 1, settings)
        return self.desired


class FleetState:
    """The devices of one fleet."""

    def __init__(self, fleet: str) -> None:
        self.fleet = fleet
        self.devices: dict[str, DeviceState] = {}

    def device(self, name: str) -> DeviceState:
        """The device called ``name``, new if it is not known yet."""
        state = self.devices.get(name)
        if state is None:
            state = self.devices[name] = DeviceState(name)
        return state

    def learn(self, topic: Topic, message: Message) -> bool:
        """Take in what came on ``topic``, see ``DeviceState.learn``."""
        return self.device(topic.device).learn(message)

    def select(self, target: str, flag: str = "DEVICE") -> list[DeviceState]:
        """The devices that ``target`` names: a device, a group or ``all``; ``UsageError``."""
        if target == ALL:
            found = list(self.devices.values())
        elif target in self.devices:
            found = [self.devices[target]]
        else:
            found = [d for d in self.devices.values() if d.birth and target in d.birth.groups]
        if not found:
            groups = sorted(self.groups())
            known = f"groups are {', '.join(groups)}" if groups else "no device has a group"
            raise UsageError(
                f"{flag}: {target!r} is no device and no group of fleet {self.fleet} "
                f"({len(self.devices)} devices; {known}); or give all"
            )
        return sorted(found, key=lambda device: device.name)

    def groups(self) -> set[str]:
        """The groups that devices say they are in."""
        return {g for d in self.devices.values() if d.birth is not None for g in d.birth.groups}


def accuracy(telemetry: Iterable[Telemetry]) -> tuple[int, int]:
    """Right answers and labelled ones."""
    right = labelled = 0
    for one in telemetry:
        right, labelled = right + one.right, labelled + one.labelled
    return right, labelled
