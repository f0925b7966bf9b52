"""The record of a roll-out: its rules, how far it is, and what each device had before. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import msgspec

from cloud.fleet.state import DeviceState
from shared.errors import UsageError
from shared.fleet.scenario import Rollout

CONTROL = -1  # the wave of the control group


class Phase(str, Enum):
    """How far a roll-out is."""

    RUNNING = "running"  # a wave is given the model, or watched
    PAUSED = "paused"
    SPREADING = "spreading"  # accepted: the control group and devices that were away get it too
    GOING_BACK = "going back"
    DONE = "done"
    STOPPED = "stopped"  # all that had it are back, or go back when they are connected

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self in (Phase.DONE, Phase.STOPPED)


class MemberState(str, Enum):
    """What a device has of a roll-out."""

    WAITING = "waiting"  # not asked yet
    ASKED = "asked"
    TOOK = "took"
    REFUSED = "refused"
    RETURNING = "returning"  # asked to go back, and has not said that it is
    BACK = "back"


TOUCHED = (MemberState.ASKED, MemberState.TOOK, MemberState.REFUSED)


@dataclass(frozen=True)
class Member:
    """A device of a roll-out; ``desired``, ``model`` and ``version`` are those from before."""

    name: str
    wave: int
    desired: str | None
    model: str
    version: str
    state: MemberState = MemberState.WAITING


class Progress(msgspec.Struct, frozen=True):
    """How far a roll-out is.

    wave     the present one, from 0
    since_s  when it began, or at the end when a device last answered, by the driver's clock
    mark_s   arrival of the newest telemetry when the wave had the model; what is newer is judged
    version  of the model that the devices took; the first one decides if the rules leave it open
    """

    phase: Phase = Phase.RUNNING
    wave: int = 0
    since_s: float = 0.0
    mark_s: float | None = None
    version: str = ""
    reason: str = ""


@dataclass(frozen=True)
class RolloutRecord:
    """A roll-out with its devices by name."""

    fleet: str
    number: int
    rules: Rollout
    members: Mapping[str, Member]
    progress: Progress = field(default_factory=Progress)

    @property
    def waves(self) -> int:
        """How many waves there are, the control group apart."""
        return len(self.rules.waves)

    def of_wave(self, wave: int) -> list[Member]:
        """Return the members of ``wave``."""
        return [one for one in self.members.values() if one.wave == wave]

    def counts(self, wave: int | None = None) -> Counter[str]:
        """Return how many devices, of ``wave`` or of all, are in each state."""
        members = self.members.values() if wave is None else self.of_wave(wave)
        return Counter(one.state.value for one in members)

    def having(self, states: Mapping[str, MemberState]) -> RolloutRecord:
        """Return the record with these states of members."""
        changed = {name: replace(self.members[name], state=one) for name, one in states.items()}
        return replace(self, members={**self.members, **changed})

    def moved(self, **changes: object) -> RolloutRecord:
        """Return the record with these fields of its progress."""
        return replace(self, progress=msgspec.structs.replace(self.progress, **changes))


def plan(
    fleet: str, number: int, rules: Rollout, devices: Sequence[DeviceState], now_s: float
) -> RolloutRecord:
    """Return the record of a new roll-out: who gets the model when, and what everybody has now.

    By hash of the names: their order would fill the first waves with one group.
    """
    ordered = sorted(devices, key=lambda one: hash_name(one.name))
    kept = min(max(round(rules.control * len(ordered)), 1), len(ordered) - 1)
    if rules.control and not kept:
        raise UsageError("DEVICE: one device alone cannot be judged; give --control 0")
    kept = kept if rules.control else 0
    members = {}
    ends = [round(share * (len(ordered) - kept)) for share in rules.waves]
    for place, device in enumerate(ordered):
        wave = next((number for number, end in enumerate(ends) if place < end), CONTROL)
        reported = device.reported
        members[device.name] = Member(
            device.name,
            wave,
            device.desired.settings.model,
            (reported.settings.model or "") if reported else "",
            reported.model_version if reported else "",
        )
    return RolloutRecord(fleet, number, rules, members, Progress(since_s=now_s))


def hash_name(name: str) -> int:
    """Return a key that sorts names in an order unrelated to the alphabet, the same every time."""
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return value
