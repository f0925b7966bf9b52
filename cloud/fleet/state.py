"""The state of a fleet: the latest message of each kind for each device. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from cloud.fleet.sequences import Sequences
from shared.errors import UsageError
from shared.fleet.messages import (
    Birth,
    Death,
    Desired,
    DeviceSettings,
    Message,
    MessageKind,
    Reported,
    Telemetry,
    Topic,
    is_online,
)

ALL = "all"
MOST_CHANGES = 1_000_000  # highest plausible version while no desired state is known
MOST_LOST = 50  # desired states of a device that a killed broker may have lost


class RefusedError(Exception):
    """A well-formed message that contradicts what is known; names the field and the reason."""

    def __init__(self, field_name: str, reason: str) -> None:
        super().__init__(f"{field_name}: {reason}")
        self.field = field_name
        self.reason = reason


@dataclass
class DeviceState:
    """The latest birth, death, desired state, reported state and telemetry of a device."""

    name: str
    birth: Birth | None = None
    death: Death | None = None
    desired: Desired = field(default_factory=lambda: Desired(0))
    reported: Reported | None = None
    telemetry: Telemetry | None = None
    # A report with a version above the desired one: a killed broker has lost desired states, or
    # the device is faulty. The next change gets a higher version.
    ahead: Reported | None = None
    epochs: dict[str, Sequences] = field(default_factory=dict)
    last_epoch: str = ""
    seen_s: float = 0.0  # arrival of its last birth or telemetry, monotonic
    clock_off_s: float = 0.0  # its clock minus ours, at its last telemetry

    @property
    def online(self) -> bool:
        """Whether it is connected according to its last birth and death."""
        return is_online(self.birth, self.death)

    def learn(self, message: Message) -> bool:
        """Update the state by ``message``; return False if it is telemetry that is known already.

        Raises ``RefusedError`` for a message that contradicts what is known.
        """
        match message:
            case Birth():
                self._learn_birth(message)
            case Death():
                self.death = message
            case Reported():
                self._learn_report(message)
            case Desired():
                # Two clients may publish the same version; the broker keeps the later message.
                if message.version >= self.desired.version:
                    self.desired = message
                    self._catch_up()
            case Telemetry():
                sequences = self.epochs.setdefault(message.epoch, Sequences())
                if not sequences.plausible(message.sequence, self.birth is not None):
                    raise RefusedError(
                        "sequence", f"{message.sequence} is far ahead of what was announced"
                    )
                if not sequences.add(message.sequence):
                    return False
                last = self.telemetry
                if last is None or message.epoch != last.epoch or message.sequence > last.sequence:
                    self.telemetry = message
        return True

    @property
    def sequences(self) -> Sequences:
        """The sequence numbers of the present epoch."""
        return self.epochs.setdefault(self.last_epoch, Sequences())

    def _learn_birth(self, message: Birth) -> None:
        birth = self.birth
        if birth is not None and message.epoch == birth.epoch and message.session < birth.session:
            return
        self.birth = message
        self.last_epoch = message.epoch
        self.sequences.announce(message.next_sequence)

    def _learn_report(self, message: Reported) -> None:
        known = self.reported
        if known is not None and message.epoch == known.epoch and message.session < known.session:
            return  # an old report that a killed broker has restored
        # Until a desired state is known, an earlier client may have set any version.
        most = self.desired.version or MOST_CHANGES
        if message.version > most:
            if message.version <= most + MOST_LOST:
                self.ahead = message
            raise RefusedError(
                "version", f"{message.version} was never desired; {most} is the most"
            )
        self.reported, self.ahead = message, None

    def clear(self, kind: MessageKind) -> None:
        """Forget a retained state that has been cleared at the broker."""
        match kind:
            case MessageKind.BIRTH:
                self.birth = None
            case MessageKind.DEATH:
                self.death = None
            case MessageKind.DESIRED:
                self.desired = Desired(0)
            case MessageKind.REPORTED:
                self.reported = None

    @property
    def retired(self) -> bool:
        """Whether no retained state is left."""
        known = (self.birth, self.death, self.reported)
        return known == (None, None, None) and not self.desired.version

    def change(self, settings: DeviceSettings) -> Desired:
        """Make ``settings`` the desired state, with the next free version; return it."""
        said = [one.version for one in (self.reported, self.ahead) if one is not None]
        self.desired = Desired(max(self.desired.version, *said, 0) + 1, settings)
        self._catch_up()
        return self.desired

    def _catch_up(self) -> None:
        """Accept the report that was ahead, once its version is known."""
        if self.ahead is not None and self.ahead.version <= self.desired.version:
            self.reported, self.ahead = self.ahead, None


class FleetState:
    """The devices of one fleet."""

    def __init__(self, fleet: str) -> None:
        self.fleet = fleet
        self.devices: dict[str, DeviceState] = {}

    def device(self, name: str) -> DeviceState:
        """Return the device called ``name``, adding it if it is not known yet."""
        state = self.devices.get(name)
        if state is None:
            state = self.devices[name] = DeviceState(name)
        return state

    def learn(self, topic: Topic, message: Message) -> bool:
        """Update the state by a message on ``topic``; see ``DeviceState.learn``."""
        return self.device(topic.device).learn(message)

    def clear(self, topic: Topic) -> bool:
        """Forget a cleared retained state; return True if the device has left the fleet by it."""
        device = self.devices.get(topic.device)
        if device is not None:
            device.clear(topic.kind)
            if device.retired:
                del self.devices[topic.device]
                return True
        return False

    def select(self, target: str, flag: str = "DEVICE") -> list[DeviceState]:
        """Return the devices that ``target`` names (a device, a group or ``all``), sorted by name.

        ``UsageError`` names ``flag`` if nothing has that name.
        """
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
        """Return the groups that devices belong to."""
        return {g for d in self.devices.values() if d.birth is not None for g in d.birth.groups}
