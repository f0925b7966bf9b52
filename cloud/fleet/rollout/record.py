"""The record of a roll-out: rules, progress, and what each device had before. Pure."""

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
    """The phases of a roll-out."""

    RUNNING = "running"  # a wave gets the model or is being watched
    PAUSED = "paused"
    SPREADING = "spreading"  # accepted: the control group and devices that were away get it too
    GOING_BACK = "going back"
    DONE = "done"
    STOPPED = "stopped"  # devices have gone back; those that are away will when they return

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self in (Phase.DONE, Phase.STOPPED)


class MemberState(str, Enum):
    """The state of a device in a roll-out."""

    WAITING = "waiting"  # not asked yet to take the model
    ASKED = "asked"
    TOOK = "took"
    REFUSED = "refused"
    RETURNING = "returning"  # asked to go back and has not confirmed it
    BACK = "back"


TOUCHED = (MemberState.ASKED, MemberState.TOOK, MemberState.REFUSED)


@dataclass(frozen=True)
class Member:
    """A device in a roll-out; ``desired``, ``model`` and ``version`` are those it had before."""

    name: str
    wave: int
    desired: str | None
    model: str
    version: str
    state: MemberState = MemberState.WAITING


class Progress(msgspec.Struct, frozen=True):
    """The progress of a roll-out.

    wave     index of the present wave, from 0
    since_s  when the wave began or, in the last phases, when a device last answered; driver's clock
    mark_s   arrival of the newest telemetry when the wave had the model; newer telemetry is judged
    version  version of the model; if the rules leave it open, that of the first device to take it
    reason   the latest finding, in words
    """

    phase: Phase = Phase.RUNNING
    wave: int = 0
    since_s: float = 0.0
    mark_s: float | None = None
    version: str = ""
    reason: str = ""


@dataclass(frozen=True)
class RolloutRecord:
    """A roll-out: its rules, progress, and devices by name."""

    fleet: str
    number: int
    rules: Rollout
    members: Mapping[str, Member]
    progress: Progress = field(default_factory=Progress)

    @property
    def waves(self) -> int:
        """Number of waves, without the control group."""
        return len(self.rules.waves)

    def of_wave(self, wave: int) -> list[Member]:
        """Return the devices of ``wave``."""
        return [one for one in self.members.values() if one.wave == wave]

    def counts(self, wave: int | None = None) -> Counter[str]:
        """Count the devices, of ``wave`` or of all, by state."""
        members = self.members.values() if wave is None else self.of_wave(wave)
        return Counter(one.state.value for one in members)

    def having(self, states: Mapping[str, MemberState]) -> RolloutRecord:
        """Return a copy in which these devices have these states."""
        changed = {name: replace(self.members[name], state=one) for name, one in states.items()}
        return replace(self, members={**self.members, **changed})

    def moved(self, **changes: object) -> RolloutRecord:
        """Return a copy with these fields of its progress changed."""
        return replace(self, progress=msgspec.structs.replace(self.progress, **changes))


def plan(
    fleet: str, number: int, rules: Rollout, devices: Sequence[DeviceState], now_s: float
) -> RolloutRecord:
    """Return the record of a new roll-out: the wave of each device, and what it has now.

    Devices are assigned by a hash of their names: in alphabetical order, the first waves would
    hold devices of one group only.
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
    """Return a sort key that gives names a fixed order unrelated to the alphabet."""
    value = 2166136261
    for byte in name.encode():
        value = (value ^ byte) * 16777619 % 2**32
    return value
