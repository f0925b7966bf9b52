"""Fleet messages: JSON as the .proto says, strict reading, and topics."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from protos.fleet.v1 import fleet_pb2 as pb
from shared.errors import MessageError
from shared.fleet.messages import (
    PROTOCOL,
    Birth,
    Command,
    Desired,
    DeviceSettings,
    Message,
    MessageKind,
    RefusedSetting,
    Reported,
    Result,
    Telemetry,
    Topic,
    parse_topic,
)
from shared.fleet.payloads import LARGEST_PAYLOAD_BYTES, dump, load

EXAMPLES: dict[MessageKind, Message] = {
    MessageKind.BIRTH: Birth(
        "a", 1, 5, 1.7e9, PROTOCOL, groups=("north",), levels=(0.5, 1.0), exit_head=True
    ),
    MessageKind.DESIRED: Desired(3, DeviceSettings(fraction="0.5", rate_per_s=0.0, audit_rate=0.1)),
    MessageKind.REPORTED: Reported(
        "a", 1, 3, DeviceSettings("auto"), (RefusedSetting("model", "none such"),)
    ),
    MessageKind.TELEMETRY: Telemetry(
        "a",
        1,
        7,
        1.7e9,
        battery=0.5,
        answered_cloud=3,
        plugged=True,
        audited=2,
        agreed=1,
        exits_asked=3,
        exit_confidence=0.75,
        idle_j=0.5,
        second_looks=1,
    ),
    MessageKind.COMMAND: Command("c-1", "battery", {"level": "0.5"}, 5.0),
    MessageKind.RESULT: Result("a", "c-1", ok=False, error="no"),
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_what_is_written_is_read_and_is_the_json_of_the_proto(kind: MessageKind) -> None:
    message = EXAMPLES[kind]
    payload = dump(message)
    assert load(Topic("city", "a", kind), payload) == message
    proto = getattr(pb, type(message).__name__)()
    json_format.Parse(payload, proto)
    theirs = json_format.MessageToJson(proto, preserving_proto_field_name=True)
    assert load(Topic("city", "a", kind), theirs.encode()) == message


@given(
    battery=st.floats(0, 1),
    sequence=st.integers(1, 2**32 - 1),
    energy=st.floats(0, 1e9),
    error=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50),
)
def test_every_telemetry_survives(battery: float, sequence: int, energy: float, error: str) -> None:
    one = Telemetry("a", 1, sequence, 0.0, battery=battery, energy_j=energy, error=error)
    assert load(Topic("city", "a", MessageKind.TELEMETRY), dump(one)) == one


GOOD = {"device": "a", "session": 1, "sequence": 1, "unix_s": 1.0}
HOSTILE = {
    "no JSON": (b"{", "payload"),
    "no object": (b"[1]", "payload"),
    "not UTF-8": (b"\xff\xfe", "payload"),
    "another device": ({**GOOD, "device": "b"}, "device"),
    "unknown field": ({**GOOD, "colour": 1}, "colour"),
    "missing field": ({"device": "a", "session": 1, "unix_s": 1}, "sequence"),
    "NUL": ({**GOOD, "error": "a\0b"}, "error"),
    "half a surrogate pair": ({**GOOD, "error": "a\ud800b"}, "error"),
    "half a surrogate pair in a name": ({**GOOD, "a\ud800b": 1}, "payload"),
    "sequence 0": ({**GOOD, "sequence": 0}, "sequence"),
    "negative": ({**GOOD, "session": -1}, "session"),
    "too large": ({**GOOD, "sequence": 2**32}, "sequence"),
    "fractional count": ({**GOOD, "failed": 1.5}, "failed"),
    "truth for a number": ({**GOOD, "failed": True}, "failed"),
    "text for a number": ({**GOOD, "battery": "full"}, "battery"),
    "battery over full": ({**GOOD, "battery": 1.1}, "battery"),
    "NaN": (b'{"device":"a","session":1,"sequence":1,"unix_s":NaN}', "payload"),
    "overflow": (b'{"device":"a","session":1,"sequence":1,"unix_s":1e999}', "unix_s"),
    "twice": (b'{"device":"a","device":"a"}', "payload"),
    "deep": (b"[" * 60_000, "payload"),
    "null": (b'{"device":null,"session":1,"sequence":1,"unix_s":1}', "device"),
    "long text": ({**GOOD, "error": "x" * 2000}, "error"),
    "10 MB": (b'"' + b"x" * 10 * 2**20 + b'"', "payload"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_the_contract_is_refused_with_topic_and_field(name: str) -> None:
    payload, field = HOSTILE[name]
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    assert len(data) > LARGEST_PAYLOAD_BYTES or name != "10 MB"
    with pytest.raises(MessageError) as caught:
        load(Topic("city", "a", MessageKind.TELEMETRY), data)
    assert caught.value.field == field
    assert str(caught.value).startswith("taper/v1/city/a/telemetry: ")
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_parse_or_be_refused(data: bytes) -> None:
    for kind in MessageKind:
        try:
            load(Topic("city", "a", kind), data)
        except MessageError:
            continue


@pytest.mark.parametrize(
    "text", ["", "taper/v1/city/a", "taper/v2/city/a/birth", "taper/v1/city/a/x",
             "taper/v1/ci ty/a/birth", "taper/v1/city//birth", "taper/v1/city/+/birth"],
)  # fmt: skip
def test_topics_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(MessageError):
        parse_topic(text)
