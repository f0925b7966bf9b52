"""The fleet contract: topics and what is said on them, as frozen values.

``protos/fleet/v1/fleet.proto`` has the meaning and the unit of each field;
``shared.fleet.payloads`` turns values into JSON and JSON into values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from shared.errors import MessageError

PROTOCOL = 1
ROOT = "taper/v1"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
NAME_RULE = "give 1 to 64 letters, digits, - and _, the first a letter or a digit"


class Kind(Enum):
    """The last level of a topic."""

    BIRTH = "birth"
    DEATH = "death"
    DESIRED = "desired"
    REPORTED = "reported"
    TELEMETRY = "telemetry"
    COMMAND = "command"
    RESULT = "result"


RETAINED = frozenset((Kind.BIRTH, Kind.DEATH, Kind.DESIRED, Kind.REPORTED))


@dataclass(frozen=True, slots=True)
class Topic:
    """``taper/v1/{fleet}/{device}/{kind}``."""

    fleet: str
    device: str
    kind: Kind

    def __str__(self) -> str:
        return f"{ROOT}/{self.fleet}/{self.device}/{self.kind.value}"


@dataclass(frozen=True, slots=True)
class Birth:
    """A device is here; ``next_sequence`` is that of its next new telemetry."""

    device: str
    session: int
    next_sequence: int
    unix_s: float
    protocol: int = PROTOCOL
    groups: tuple[str, ...] = ()
    hardware: str = ""
    software: str = ""
    levels: tuple[float, ...] = ()
    exit_head: bool = False
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Death:
    """A device is gone, if its ``session`` is that of its birth or a later one."""

    device: str
    session: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set; None leaves it to the device."""

    fraction: str | None = None
    exit_threshold: float | None = None
    rate_per_s: float | None = None
    telemetry_s: float | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """What a device should work with, as a whole."""

    version: int
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A setting that a device did not take."""

    field: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reported:
    """What a device works with; ``version`` is that of the desired state that it answers."""

    device: str
    session: int
    version: int = 0
    settings: Settings = field(default_factory=Settings)
    refused: tuple[Refusal, ...] = ()
    model_version: str = ""
    unix_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a device did in one period; counts are of that period. Units as in ``fleet.proto``."""

    device: str
    session: int
    sequence: int
    unix_s: float
    period_s: float = 0.0
    battery: float = 0.0
    plugged: bool = False
    fraction: float = 0.0
    cloud_fraction: float = 0.0
    answered_device: int = 0
    answered_cloud: int = 0
    failed: int = 0
    labelled: int = 0
    right: int = 0
    payload_bytes: int = 0
    energy_j: float = 0.0
    latency_ms: float = 0.0
    latency_max_ms: float = 0.0
    reported_version: int = 0
    model: str = ""
    model_version: str = ""
    dropped: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A thing to do once, within ``timeout_s``."""

    id: str
    name: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of the command ``id``."""

    device: str
    id: str
    ok: bool = False
    values: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


Message = Birth | Death | Desired | Reported | Telemetry | Command | Result


def parse_topic(text: str) -> Topic:
    """The topic in ``text``; ``MessageError`` if it is none of ours."""
    parts = text.split("/")
    if len(parts) != 5 or "/".join(parts[:2]) != ROOT:
        raise MessageError(text, "topic", f"is not of the form {ROOT}/FLEET/DEVICE/KIND")
    _, _, fleet, device, kind = parts
    for name, value in (("fleet", fleet), ("device", device)):
        if not NAME.fullmatch(value):
            raise MessageError(text, name, f"{value[:80]!r} is no name; {NAME_RULE}")
    try:
        return Topic(fleet, device, Kind(kind))
    except ValueError:
        known = ", ".join(one.value for one in Kind)
        raise MessageError(text, "topic", f"kind {kind[:80]!r} is unknown; {known}") from None


def check_name(text: str, what: str) -> str:
    """Return ``text`` if it can name a fleet, a device or a group, else ``ValueError``."""
    if not NAME.fullmatch(text):
        raise ValueError(f"{what}: {text[:80]!r} is no name; {NAME_RULE}")
    return text
