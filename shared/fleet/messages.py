"""The fleet contract: topics and the messages on them, as frozen values.

``protos/fleet/v1/fleet.proto`` documents meaning and unit of each field. The types here add the
ranges, which a .proto cannot express; ``shared.fleet.payloads`` checks them on reading.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from msgspec import Meta, Struct

from shared.errors import MessageError

PROTOCOL = 1
ROOT = "taper/v1"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
NAME_RULE = "give 1 to 64 letters, digits, - and _, the first a letter or a digit"
POLICIES = ("auto", "linear", "step")
LARGEST_UINT32 = 2**32 - 1
LATEST_UNIX_S = 253_402_300_799.0  # the end of the year 9999
MOST_ENTRIES = 64  # most entries of a list or map


class MessageKind(Enum):
    """The kinds of messages; the value is the last level of the topic."""

    BIRTH = "birth"
    DEATH = "death"
    DESIRED = "desired"
    REPORTED = "reported"
    TELEMETRY = "telemetry"
    COMMAND = "command"
    RESULT = "result"


RETAINED = (MessageKind.BIRTH, MessageKind.DEATH, MessageKind.DESIRED, MessageKind.REPORTED)


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic ``taper/v1/{fleet}/{device}/{kind}``."""

    fleet: str
    device: str
    kind: MessageKind

    def __str__(self) -> str:
        return f"{ROOT}/{self.fleet}/{self.device}/{self.kind.value}"


Name = Annotated[str, Meta(pattern=rf"\A{NAME.pattern}\Z")]
# Empty if it is unknown, e.g. the model of a device that waits for one.
NameOrEmpty = Annotated[str, Meta(pattern=rf"\A({NAME.pattern})?\Z")]
# Excludes characters that JSON can express but databases or UTF-8 cannot: NUL, lone surrogates.
Text = Annotated[str, Meta(max_length=1000, pattern=r"\A[^\x00\ud800-\udfff]*\Z")]
Fraction = Annotated[
    str,
    Meta(
        max_length=40,
        pattern=rf"\A({'|'.join(POLICIES)}|0?\.0*[1-9]\d*|1(\.0*)?|[1-9](\.\d+)?[eE]-\d\d?)\Z",
    ),
]
Share = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0, le=LATEST_UNIX_S)]  # seconds, joules, milliseconds
Count = Annotated[int, Meta(ge=0, le=LARGEST_UINT32)]
Ordinal = Annotated[int, Meta(ge=1, le=LARGEST_UINT32)]
# Far below the largest integer, so that there is always a next version.
LATEST_VERSION = 1_000_000_000
Version = Annotated[int, Meta(ge=0, le=LATEST_VERSION)]
# Random, chosen when a device creates its ledger; "" from devices of earlier releases.
Epoch = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9]{0,32}\Z")]
Texts = Annotated[Mapping[Text, Text], Meta(max_length=MOST_ENTRIES)]


class Payload(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Base of all messages: unknown fields are refused, default values are not written.

    Messages are exempt from garbage collection (``gc=False``): they form no cycles, and the
    dashboard keeps very many.
    """


class Birth(Payload, frozen=True):
    """The device is connected; ``next_sequence`` is the number of its next new telemetry.

    Sessions and sequence numbers count within an epoch. A device whose ledger was lost begins a new
    epoch, so that its numbers are not mistaken for earlier ones.
    """

    device: Name
    session: Ordinal
    next_sequence: Ordinal
    unix_s: Amount
    protocol: Annotated[int, Meta(ge=PROTOCOL, le=PROTOCOL)]
    groups: Annotated[tuple[Name, ...], Meta(max_length=MOST_ENTRIES)] = ()
    hardware: Text = ""
    software: Text = ""
    levels: Annotated[tuple[Amount, ...], Meta(max_length=MOST_ENTRIES)] = ()
    exit_head: bool = False
    simulated: bool = False
    epoch: Epoch = ""


class Death(Payload, frozen=True):
    """The device is disconnected, unless its birth has a later session."""

    device: Name
    session: Count
    reason: Text = ""
    epoch: Epoch = ""


def is_online(birth: Birth | None, death: Death | None) -> bool:
    """Return whether a device with these last messages is connected.

    A death only applies to births of its epoch with the same session or an earlier one, because the
    last will of a connection can arrive after the birth of the next.
    """
    if birth is None or death is None:
        return birth is not None
    return death.epoch != birth.epoch or death.session < birth.session


class DeviceSettings(Payload, frozen=True):
    """The settings that an operator can set; None leaves the choice to the device."""

    fraction: Fraction | None = None
    exit_threshold: Share | None = None
    rate_per_s: Annotated[float, Meta(ge=0, le=1000)] | None = None
    telemetry_s: Annotated[float, Meta(ge=0.1, le=86_400)] | None = None
    model: NameOrEmpty | None = None
    audit_rate: Share | None = None


class Desired(Payload, frozen=True):
    """The desired state of a device: all settings, and a version."""

    version: Annotated[int, Meta(ge=1, le=LATEST_VERSION)]
    settings: DeviceSettings = DeviceSettings()


class RefusedSetting(Payload, frozen=True):
    """A setting that a device refused, and why."""

    field: Text
    reason: Text = ""


class Reported(Payload, frozen=True):
    """The reported state of a device; ``version`` is that of the desired state it answers."""

    device: Name
    session: Count
    version: Version = 0
    settings: DeviceSettings = DeviceSettings()
    refused: Annotated[tuple[RefusedSetting, ...], Meta(max_length=MOST_ENTRIES)] = ()
    model_version: Text = ""
    unix_s: Amount = 0.0
    epoch: Epoch = ""


class Telemetry(Payload, frozen=True):
    """The work of a device in one period, for which it counts. Units are in ``fleet.proto``."""

    device: Name
    session: Count
    sequence: Ordinal
    unix_s: Amount
    period_s: Amount = 0.0
    battery: Share = 0.0
    plugged: bool = False
    fraction: Share = 0.0
    cloud_fraction: Share = 0.0
    answered_device: Count = 0
    answered_cloud: Count = 0
    failed: Count = 0
    labelled: Count = 0
    right: Count = 0
    payload_bytes: Count = 0
    energy_j: Amount = 0.0
    latency_ms: Amount = 0.0
    latency_max_ms: Amount = 0.0
    reported_version: Count = 0
    model: NameOrEmpty = ""
    model_version: Text = ""
    dropped: Count = 0
    error: Text = ""
    epoch: Epoch = ""
    audited: Count = 0
    agreed: Count = 0
    exits_asked: Count = 0
    exit_confidence: Share = 0.0
    idle_j: Amount = 0.0
    second_looks: Count = 0

    @property
    def answered(self) -> int:
        """Number of samples answered, on the device or by the cloud."""
        return self.answered_device + self.answered_cloud


class Command(Payload, frozen=True):
    """A command to execute once, within ``timeout_s`` seconds."""

    id: Text
    name: Text
    arguments: Texts = {}
    timeout_s: Amount = 10.0


class Result(Payload, frozen=True):
    """The outcome of the command ``id``."""

    device: Name
    id: Text
    ok: bool = False
    values: Texts = {}
    error: Text = ""


Message = Birth | Death | Desired | Reported | Telemetry | Command | Result


def parse_topic(text: str) -> Topic:
    """Return the topic in ``text``; ``MessageError`` if it does not have this form."""
    parts = text.split("/")
    if len(parts) != 5 or "/".join(parts[:2]) != ROOT:
        raise MessageError(text, "topic", f"is not of the form {ROOT}/FLEET/DEVICE/KIND")
    _, _, fleet, device, kind = parts
    for name, value in (("fleet", fleet), ("device", device)):
        if not NAME.fullmatch(value):
            raise MessageError(text, name, f"{value[:80]!r} is no name; {NAME_RULE}")
    try:
        return Topic(fleet, device, MessageKind(kind))
    except ValueError:
        known = ", ".join(one.value for one in MessageKind)
        raise MessageError(text, "topic", f"kind {kind[:80]!r} is unknown; {known}") from None


def check_name(text: str, what: str) -> str:
    """Return ``text`` if it is a valid name of a fleet, device or group; else ``ValueError``."""
    if not NAME.fullmatch(text):
        raise ValueError(f"{what}: {text[:80]!r} is no name; {NAME_RULE}")
    return text
