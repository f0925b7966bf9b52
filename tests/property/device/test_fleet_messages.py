"""The C engine writes and reads the fleet's messages as the Python side does."""

from __future__ import annotations

import ctypes
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.micro.blob import make_blob
from shared.errors import MessageError
from shared.fleet.messages import (
    LATEST_VERSION,
    POLICIES,
    Birth,
    Death,
    Desired,
    DeviceSettings,
    Message,
    MessageKind,
    RefusedSetting,
    Reported,
    Telemetry,
    Topic,
)
from shared.fleet.payloads import SETTING_RULES, dump, load
from tests.support.clouds import tiny_bundle
from tests.support.engine import Engine, build_library
from tests.support.fleet_engine import NUMBERS, FleetEngine

NO_ROOM, BAD_TEXT = 4, 6
MILLION = 1_000_000
FIELDS_BY_BIT = (
    "fraction", "exit_threshold", "rate_per_s", "telemetry_s", "model", "audit_rate",
)  # fmt: skip
NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
EPOCHS = st.from_regex(r"\A[A-Za-z0-9]{0,32}\Z")
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
COUNTS = st.integers(0, 2**32 - 1)
SHARES = st.integers(0, MILLION)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build_library(tmp_path_factory.mktemp("engine"))


def topic(device: str, kind: MessageKind) -> Topic:
    return Topic("city", device, kind)


@given(NAMES, EPOCHS, COUNTS.filter(bool), COUNTS.filter(bool), COUNTS, TEXTS, st.booleans())
def test_births(
    library: ctypes.CDLL,
    device: str,
    epoch: str,
    session: int,
    sequence: int,
    unix_s: int,
    text: str,
    with_model: bool,
) -> None:
    bundle = tiny_bundle()
    engine = Engine(library, make_blob(bundle, [0, 1, 2])) if with_model else None
    written = FleetEngine(library, device, epoch, session).birth(
        sequence, unix_s, (text, text[::-1]), engine
    )
    assert written.status == 0
    expected = Birth(
        *(device, session, sequence, float(unix_s), 1),
        hardware=text,
        software=text[::-1],
        levels=bundle.architecture.device_levels if with_model else (),
        exit_head=with_model,
        epoch=epoch,
    )
    assert load(topic(device, MessageKind.BIRTH), written.payload) == expected


@given(NAMES, EPOCHS, COUNTS, TEXTS)
def test_deaths(library: ctypes.CDLL, device: str, epoch: str, session: int, reason: str) -> None:
    written = FleetEngine(library, device, epoch, session).death(reason)
    found = load(topic(device, MessageKind.DEATH), written.payload)
    assert found == Death(device, session, reason, epoch)


@given(NAMES, st.integers(0, LATEST_VERSION), SHARES, st.integers(0, 63), COUNTS)
def test_reported_states(
    library: ctypes.CDLL, device: str, version: int, fraction: int, refused: int, unix_s: int
) -> None:
    written = FleetEngine(library, device, "e1", 3).reported(
        (version, fraction, refused), unix_s, "0123"
    )
    found = load(topic(device, MessageKind.REPORTED), written.payload)
    assert isinstance(found, Reported)
    assert (found.device, found.session, found.version) == (device, 3, version)
    assert (found.model_version, found.unix_s, found.epoch) == ("0123", unix_s, "e1")
    if fraction:
        assert float(found.settings.fraction or 0) == fraction / MILLION
    else:
        assert found.settings == DeviceSettings()
    named = [field for bit, field in enumerate(FIELDS_BY_BIT) if refused >> bit & 1]
    assert found.refused == tuple(RefusedSetting(name, "not on this board") for name in named)


def test_every_setting_has_its_bit() -> None:
    assert sorted(FIELDS_BY_BIT) == sorted(SETTING_RULES)


@given(st.data())
def test_telemetry(library: ctypes.CDLL, data: st.DataObject) -> None:
    shares = ("battery", "fraction", "cloud_fraction")
    numbers = {
        name: data.draw(SHARES if name in shares else COUNTS.filter(bool), name) for name in NUMBERS
    }
    plugged, text = data.draw(st.booleans()), data.draw(TEXTS)
    written = FleetEngine(library, "board", "e1", 3).telemetry(
        numbers, plugged, ("mnist-binary", "0123", text)
    )
    n = numbers
    assert load(topic("board", MessageKind.TELEMETRY), written.payload) == Telemetry(
        *("board", 3, n["sequence"], float(n["unix_s"])),
        period_s=n["period_ms"] / 1000,
        battery=n["battery"] / MILLION,
        plugged=plugged,
        fraction=n["fraction"] / MILLION,
        cloud_fraction=n["cloud_fraction"] / MILLION,
        answered_device=n["answered_device"],
        answered_cloud=n["answered_cloud"],
        failed=n["failed"],
        payload_bytes=n["payload_bytes"],
        energy_j=n["energy_mj"] / 1000,
        latency_ms=n["latency_us"] / 1000,
        latency_max_ms=n["latency_max_us"] / 1000,
        reported_version=n["reported_version"],
        model="mnist-binary",
        model_version="0123",
        dropped=n["dropped"],
        error=text,
        epoch="e1",
    )


FRACTIONS = st.floats(1e-9, 1).map(str) | st.sampled_from(["1", "1.0", ".5", "0.3", "5e-05"])
SETTINGS = st.builds(
    DeviceSettings,
    fraction=st.none() | FRACTIONS | st.sampled_from(POLICIES),
    exit_threshold=st.none() | st.floats(0, 1),
    rate_per_s=st.none() | st.floats(0, 1000),
    telemetry_s=st.none() | st.floats(0.1, 86_400),
    model=st.none() | NAMES,
    audit_rate=st.none() | st.floats(0, 1),
)
DESIRED = st.builds(Desired, st.integers(1, LATEST_VERSION), SETTINGS)


@given(DESIRED)
def test_desired_states(library: ctypes.CDLL, desired: Desired) -> None:
    settings = desired.settings
    found = FleetEngine(library, "board", "", 1).read_desired(dump(desired))
    assert found is not None
    refused = sum(
        1 << bit
        for bit, name in enumerate(FIELDS_BY_BIT)
        if getattr(settings, name) is not None and (bit or settings.fraction in POLICIES)
    )
    fraction = settings.fraction
    wanted = 0
    if fraction is not None and fraction not in POLICIES:
        wanted = math.ceil(Fraction(fraction) * MILLION)  # no less than what is asked for
    assert found == (desired.version, wanted, refused)


BYTES = st.sampled_from(b'0123456789.eE-+"{}[]:, ntrx\\') | st.integers(0, 255)


def loaded(payload: bytes) -> Message | str:
    """What Python reads, or the field that it refuses."""
    try:
        return load(topic("board", MessageKind.DESIRED), payload)
    except MessageError as error:
        return error.field


@given(DESIRED, st.data())
def test_damaged_desired_states_are_read_as_python_does_or_refused(
    library: ctypes.CDLL, desired: Desired, data: st.DataObject
) -> None:
    payload = bytearray(dump(desired))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload) - 1))
        payload[at] = data.draw(BYTES)
    found = FleetEngine(library, "board", "", 1).read_desired(bytes(payload))
    if found is None:
        return
    read = loaded(bytes(payload))
    if isinstance(read, Desired):
        assert read.version == found[0]
    else:  # ranges of settings that a board refuses anyway are not its concern
        assert read in [f"settings.{name}" for name in FIELDS_BY_BIT[1:]]


def test_a_message_that_does_not_fit_or_cannot_be_written_is_refused(library: ctypes.CDLL) -> None:
    member = FleetEngine(library, "board", "e1", 3)
    whole = member.reported((5, 300_000, 2), 1, "0123")
    for room in range(len(whole.payload)):
        assert member.reported((5, 300_000, 2), 1, "0123", room).status == NO_ROOM
    assert member.reported((5, 300_000, 2), 1, "0123", len(whole.payload)) == whole
    for text in ("tab\t", "\x7f", "caf\xe9"):
        assert member.death(text).status == BAD_TEXT
