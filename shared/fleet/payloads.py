"""Convert fleet messages to JSON payloads and back.

Reading is strict: a payload that violates the contract raises ``MessageError``, which names the
topic and the field. msgspec checks fields, types and ranges. Its errors quote no values, so hostile
values do not reach the log.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec

from shared.errors import MessageError
from shared.fleet.messages import (
    POLICIES,
    Birth,
    Command,
    Death,
    Desired,
    DeviceSettings,
    Message,
    MessageKind,
    Payload,
    Reported,
    Result,
    Telemetry,
    Topic,
)

LARGEST_PAYLOAD_BYTES = 64 * 1024

TYPES: dict[MessageKind, type[Message]] = {
    MessageKind.BIRTH: Birth,
    MessageKind.DEATH: Death,
    MessageKind.DESIRED: Desired,
    MessageKind.REPORTED: Reported,
    MessageKind.TELEMETRY: Telemetry,
    MessageKind.COMMAND: Command,
    MessageKind.RESULT: Result,
}
SETTING_RULES = {
    "fraction": f"a number above 0, up to 1, or {', '.join(POLICIES)}",
    "exit_threshold": "0 to 1",
    "rate_per_s": "0 to 1000",
    "telemetry_s": "0.1 to 86400",
    "model": "the name of a model",
    "audit_rate": "0 to 1",
}
P = TypeVar("P", bound=Payload)


def check_setting(name: str, value: Any) -> Any:
    """Return ``value`` if it is allowed for the setting ``name``; ``ValueError`` states
    the rule.
    """
    if name not in SETTING_RULES:
        raise ValueError(f"{name}: is unknown; settings are {', '.join(SETTING_RULES)}")
    try:
        return getattr(msgspec.convert({name: value}, DeviceSettings), name)
    except msgspec.ValidationError:
        text = repr(value)[:80]
        raise ValueError(f"{name}: {text} is not allowed; give {SETTING_RULES[name]}") from None


def dump(message: Message) -> bytes:
    """Return the payload of ``message``: JSON without spaces and default values."""
    return _ENCODER.encode(message)


def load(topic: Topic, payload: bytes) -> Message:
    """Return the message in ``payload``, from ``topic``; ``MessageError`` names the field."""
    if len(payload) > LARGEST_PAYLOAD_BYTES:
        allowed = f"{len(payload)} bytes is too large; {LARGEST_PAYLOAD_BYTES} at most"
        raise MessageError(str(topic), "payload", allowed)
    try:
        value = _DECODER.decode(payload.decode())
    except (ValueError, RecursionError) as error:
        raise MessageError(str(topic), "payload", f"is no JSON ({str(error)[:200]})") from None
    try:
        message = msgspec.convert(value, TYPES[topic.kind])
    except msgspec.ValidationError as error:
        raise MessageError(str(topic), *_explain(str(error))) from None
    except UnicodeEncodeError:
        raise MessageError(str(topic), "payload", "has half a surrogate pair") from None
    device = getattr(message, "device", topic.device)
    if device != topic.device:
        raise MessageError(str(topic), "device", f"{device!r} is not the device of the topic")
    return message


def load_stored(kind: MessageKind, payload: str) -> Message:
    """Parse a message that this package has written, e.g. to the telemetry store."""
    return msgspec.json.decode(payload, type=TYPES[kind])


def _explain(text: str) -> tuple[str, str]:
    """Split an error text of msgspec into field and reason."""
    where = re.search(r" - at `\$\.?(.*)`$", text)
    missing = re.match(r"Object (missing required|contains unknown) field `(.*?)`", text, re.DOTALL)
    path = "" if where is None else where[1]
    if missing is not None:
        name = missing[2][:80]
        path = f"{path}.{name}" if path else name
        return path, "is missing" if missing[1].startswith("missing") else "is unknown"
    reason = text if where is None else text[: where.start()]
    return path or "payload", reason[:200]


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _number(text: str) -> float | int:
    """Parse a number with a point or exponent; values such as 3.0 become integers."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is there twice")
    return found


# Made once, since ``json.loads`` would make a decoder for every message.
_ENCODER = msgspec.json.Encoder()
_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_number, object_pairs_hook=_unique
)
