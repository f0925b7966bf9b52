"""Fleet messages <-> JSON payloads: the one module that touches ``fleet_pb2``.

Names, types and nesting come from the descriptors of the .proto; this module adds what a .proto
cannot say: the ranges. Reading is strict: whatever is not exactly the contract raises
``MessageError`` naming topic and field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from protos.fleet.v1 import fleet_pb2 as pb
from shared.errors import MessageError
from shared.fleet.messages import (
    NAME,
    NAME_RULE,
    PROTOCOL,
    Birth,
    Command,
    Death,
    Desired,
    Kind,
    Message,
    Refusal,
    Reported,
    Result,
    Settings,
    Telemetry,
    Topic,
)

LARGEST_PAYLOAD_BYTES = 64 * 1024
LONGEST_TEXT = 1000
MOST_ENTRIES = 64  # of a list or a map
LARGEST_UINT32 = 2**32 - 1
POLICIES = ("auto", "linear", "step")

VALUES: dict[Kind, type[Any]] = {
    Kind.BIRTH: Birth,
    Kind.DEATH: Death,
    Kind.DESIRED: Desired,
    Kind.REPORTED: Reported,
    Kind.TELEMETRY: Telemetry,
    Kind.COMMAND: Command,
    Kind.RESULT: Result,
}
# What must be there, and the numbers that are narrower than their type.
REQUIRED: dict[type[Any], frozenset[str]] = {
    Birth: frozenset(("device", "protocol", "session", "next_sequence", "unix_s")),
    Death: frozenset(("device", "session")),
    Desired: frozenset(("version",)),
    Reported: frozenset(("device", "session")),
    Telemetry: frozenset(("device", "session", "sequence", "unix_s")),
    Command: frozenset(("id", "name")),
    Result: frozenset(("device", "id")),
    Settings: frozenset(),
    Refusal: frozenset(("field",)),
}
LATEST_UNIX_S = 253_402_300_799.0  # the year 9999
RANGES: dict[tuple[type[Any], str], tuple[float, float]] = {
    (Birth, "protocol"): (PROTOCOL, PROTOCOL),
    (Birth, "session"): (1, LARGEST_UINT32),
    (Birth, "next_sequence"): (1, LARGEST_UINT32),
    (Desired, "version"): (1, LARGEST_UINT32),
    (Settings, "exit_threshold"): (0, 1),
    (Settings, "rate_per_s"): (0, 1000),
    (Settings, "telemetry_s"): (0.1, 86_400),
    (Telemetry, "sequence"): (1, LARGEST_UINT32),
    (Telemetry, "battery"): (0, 1),
    (Telemetry, "fraction"): (0, 1),
    (Telemetry, "cloud_fraction"): (0, 1),
}
NESTED: dict[str, type[Any]] = {"Settings": Settings, "Refusal": Refusal}
M = TypeVar("M")
Reader = Callable[[Any], Any]  # raises ``ValueError`` saying what is allowed


def check_setting(name: str, value: Any) -> Any:
    """Return ``value`` if the setting ``name`` may have it; ``ValueError`` says what is allowed."""
    reader = _SHAPES[Settings].readers.get(name)
    if reader is None:
        raise ValueError(f"{name}: is unknown; settings are {', '.join(_SHAPES[Settings].readers)}")
    try:
        return reader(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def dump(message: Message | Settings) -> bytes:
    """The payload of ``message``: JSON without spaces; fields at their default are left out."""
    return _ENCODER.encode(_plain(message)).encode()


def load(topic: Topic, payload: bytes) -> Message:
    """The message in ``payload``, which came on ``topic``; ``MessageError`` names the field."""
    if len(payload) > LARGEST_PAYLOAD_BYTES:
        allowed = f"{len(payload)} bytes is too large; {LARGEST_PAYLOAD_BYTES} at most"
        raise MessageError(str(topic), "payload", allowed)
    try:
        value = _DECODER.decode(payload.decode())
    except (ValueError, RecursionError) as error:
        raise MessageError(str(topic), "payload", f"is no JSON ({error})") from None
    kind = VALUES[topic.kind]
    try:
        message: Message = _SHAPES[kind].read(value)
    except _FieldError as error:
        raise MessageError(str(topic), error.field, error.reason) from None
    device = getattr(message, "device", topic.device)
    if device != topic.device:
        raise MessageError(str(topic), "device", f"{device!r} is not the device of the topic")
    return message


def from_json(kind: type[M], value: Any) -> M:
    """A value of ``kind`` from parsed JSON; ``ValueError`` names the field."""
    try:
        made: M = _SHAPES[kind].read(value)
    except _FieldError as error:
        raise ValueError(f"{error.field}: {error.reason}") from None
    return made


def to_json(message: Message | Settings) -> dict[str, Any]:
    """``message`` as a value for ``json.dumps``; fields at their default are left out."""
    return _plain(message)


class _FieldError(Exception):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class _Shape:
    """How one message is read: a reader for each field of its descriptor."""

    def __init__(self, kind: type[Any], descriptor: Descriptor) -> None:
        self._kind = kind
        self._required = REQUIRED[kind]
        self.readers = {one.name: _reader(kind, one) for one in descriptor.fields}
        if set(self.readers) != {one.name for one in fields(kind)}:
            raise TypeError(f"{kind.__name__} and its .proto differ")
        bare = {one.name for one in fields(kind) if one.default is one.default_factory is MISSING}
        if not bare <= self._required:
            raise TypeError(f"{kind.__name__}: {bare - self._required} need defaults")

    def read(self, value: Any) -> Any:
        if type(value) is not dict:
            raise _FieldError("payload", "is not a JSON object")
        readers = self.readers
        found = {}
        for name, one in value.items():
            reader = readers.get(name)
            if reader is None:
                known = ", ".join(readers)
                raise _FieldError(name[:80], f"is unknown; fields are {known}")
            try:
                found[name] = reader(one)
            except ValueError as error:
                raise _FieldError(name, str(error)) from None
            except _FieldError as error:
                raise _FieldError(f"{name}.{error.field}", error.reason) from None
        if not self._required <= found.keys():
            missing = ", ".join(sorted(self._required - found.keys()))
            raise _FieldError(missing, "is missing")
        return self._kind(**found)


def _reader(kind: type[Any], one: FieldDescriptor) -> Reader:
    """What reads the field ``one`` of ``kind``."""
    nested = one.message_type
    if nested is not None and nested.GetOptions().map_entry:
        return _text_map
    if nested is not None:
        shape = NESTED[nested.name]

        def read_nested(value: Any) -> Any:
            return _SHAPES[shape].read(value)

        return _list_of(read_nested) if one.is_repeated else read_nested
    single = _scalar(kind, one)
    return _list_of(single) if one.is_repeated else single


def _scalar(kind: type[Any], one: FieldDescriptor) -> Reader:
    low, high = RANGES.get((kind, one.name), (-math.inf, math.inf))
    if one.type == FieldDescriptor.TYPE_BOOL:
        return _boolean
    if one.type == FieldDescriptor.TYPE_STRING:
        if one.name == "fraction":
            return _fraction
        return _name if one.name in ("device", "groups", "model") else _text
    whole = one.type == FieldDescriptor.TYPE_UINT32
    if whole:
        low, high = max(low, 0), min(high, LARGEST_UINT32)
    elif low == -math.inf:
        low, high = 0, LATEST_UNIX_S  # seconds, joules, milliseconds: never negative
    allowed = f"give {low:.15g}" if low == high else f"give {low:.15g} to {high:.15g}"

    def read(value: Any) -> Any:
        kind_of = type(value)
        if kind_of is not int and (whole or kind_of is not float):
            # 3.0 is a whole number in JSON
            if not (kind_of is float and value.is_integer()):
                raise ValueError(f"{_shown(value)} is no number; {allowed}")
            value = int(value)
        if not low <= value <= high:
            raise ValueError(f"{_shown(value)} is not allowed; {allowed}")
        return value

    return read


def _boolean(value: Any) -> bool:
    if value is not True and value is not False:
        raise ValueError(f"{_shown(value)} is not allowed; give true or false")
    return bool(value)


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > LONGEST_TEXT:
        raise ValueError(f"{_shown(value)} is not allowed; give a text of {LONGEST_TEXT} at most")
    # JSON can name characters that neither UTF-8 nor a database has.
    if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
        raise ValueError(f"{_shown(value)} is not allowed; half a surrogate pair is no character")
    if "\0" in value:
        raise ValueError(f"{_shown(value)} is not allowed; give a text without NUL")
    return value


def _name(value: Any) -> str:
    if value == "":  # not known yet, e.g. the model of a device that waits for one
        return ""
    if type(value) is not str or not NAME.fullmatch(value):
        raise ValueError(f"{_shown(value)} is no name; {NAME_RULE}")
    return value


def _fraction(value: Any) -> str:
    allowed = f"give a number above 0, up to 1, as text, or {', '.join(POLICIES)}"
    if type(value) is not str:
        raise ValueError(f"{_shown(value)} is no text; {allowed}")
    if value in POLICIES:
        return value
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number <= 1:
        raise ValueError(f"{_shown(value)} is not allowed; {allowed}")
    return value


def _list_of(single: Reader) -> Reader:
    def read(value: Any) -> Any:
        if type(value) is not list or len(value) > MOST_ENTRIES:
            raise ValueError(f"is not a list of {MOST_ENTRIES} at most")
        return tuple(single(one) for one in value)

    return read


def _text_map(value: Any) -> Mapping[str, str]:
    if type(value) is not dict or len(value) > MOST_ENTRIES:
        raise ValueError(f"is not an object of {MOST_ENTRIES} texts at most")
    return {_text(key): _text(one) for key, one in value.items()}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is there twice")
    return found


def _plain(value: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    required = REQUIRED[type(value)]
    for name, default in _DEFAULTS[type(value)]:
        one = getattr(value, name)
        if one == default and name not in required:
            continue
        kind = type(one)
        if kind is tuple:
            made[name] = [_plain(each) if type(each) is Refusal else each for each in one]
        elif kind is Settings:
            made[name] = _plain(one)
        else:
            made[name] = one
    return made


# Made once: ``json.dumps`` and ``json.loads`` would make one for every message.
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)
_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique)
_SHAPES: dict[type[Any], _Shape] = {
    kind: _Shape(kind, pb.DESCRIPTOR.message_types_by_name[kind.__name__])
    for kind in (Settings, Refusal, *VALUES.values())
}
# What proto3 leaves out; a field with explicit presence has None.
_DEFAULTS: dict[type[Any], tuple[tuple[str, Any], ...]] = {
    kind: tuple(
        (one.name, None if kind is Settings else {"str": "", "bool": False}.get(str(one.type), 0))
        if not str(one.type).startswith(("tuple", "Mapping"))
        else (one.name, () if str(one.type).startswith("tuple") else {})
        for one in fields(kind)
    )
    for kind in _SHAPES
}
