"""Events for a report: changes of settings, roll-outs, scenarios; absent devices and errors."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, func, select

from cloud.telemetry import tables
from cloud.telemetry.rolled import start_of
from cloud.telemetry.trail import DEVICE, NEW_EPOCH
from shared.fleet.messages import Birth, Death, Desired, MessageKind
from shared.fleet.payloads import load_stored

MOST_MARKS, MOST_EVENTS, MOST_ERRORS, MOST_NAMED = 20, 50_000, 10, 3
TOGETHER_S = 60.0  # equal settings of several devices within this time are one mark
ERRORS_S = 3600.0  # errors are listed from this long before the newest message
MOST_LOOKED_AT = 10_000
_E = tables.event.c
_T = tables.telemetry.c


@dataclass(frozen=True)
class Mark:
    """An event of the fleet at ``unix_s``, by the devices' clocks."""

    unix_s: float
    text: str


@dataclass(frozen=True)
class Away:
    """How often a device lost its connection, and its total absence in seconds."""

    device: str
    times: int
    seconds: float


def marks(connection: Connection, fleet: str, since_s: float) -> list[Mark]:
    """Return the events since ``since_s`` in order; if there are too many, the largest ones."""
    found = [*_settings(connection, fleet, since_s), *_rollouts(connection, fleet, since_s)]
    found += _changes(connection, fleet, since_s)
    found += _epochs(connection, fleet, since_s)
    largest = sorted(found, key=lambda one: -one[1])[:MOST_MARKS]
    return [Mark(start_of(connection, fleet, at_s), text) for at_s, _, text in sorted(largest)]


Found = tuple[float, int, str]  # time by our clock, number of devices, text


def _settings(connection: Connection, fleet: str, since_s: float) -> list[Found]:
    query = (
        select(_E.received_s, _E.payload)
        .where(
            _E.fleet == fleet, _E.kind == MessageKind.DESIRED.value, _E.received_s >= since_s
        )
        .order_by(_E.received_s.desc())
        .limit(MOST_EVENTS)
    )  # fmt: skip
    began: dict[tuple[int, str], float] = {}
    counts: Counter[tuple[int, str]] = Counter()
    for received_s, payload in connection.execute(query):
        desired = load_stored(MessageKind.DESIRED, payload)
        assert isinstance(desired, Desired)  # noqa: S101 - the kind says so
        given = msgspec.structs.asdict(desired.settings).items()
        text = " ".join(f"{name}={value}" for name, value in given if value is not None)
        key = (int(received_s // TOGETHER_S), text or "nothing desired")
        began[key] = received_s
        counts[key] += 1
    return [
        (began[key], count, f"{key[1]} for {count} device{'s' * (count > 1)}")
        for key, count in counts.items()
    ]


def _rollouts(connection: Connection, fleet: str, since_s: float) -> list[Found]:
    one = tables.rollout.c
    query = select(one.number, one.started_s, one.rules).where(
        one.fleet == fleet, one.started_s >= since_s
    )
    rows = connection.execute(query).all()
    return [
        (row.started_s, MOST_EVENTS, f"roll-out {row.number} of {_model(row.rules)}")
        for row in rows
    ]


def _model(rules: str) -> str:
    return str(msgspec.json.decode(rules).get("model", ""))


def _changes(connection: Connection, fleet: str, since_s: float) -> list[Found]:
    """Return the events of scenarios; changes by people are found as settings."""
    one = tables.change.c
    query = select(one.made_s, one.target, one.what, one.who).where(
        one.fleet == fleet, one.made_s >= since_s, one.who.startswith("scenario ")
    )
    return [
        (row.made_s, MOST_EVENTS, f"{row.who}: {row.target}: {row.what}")
        for row in connection.execute(query)
    ]


def _epochs(connection: Connection, fleet: str, since_s: float) -> list[Found]:
    """Return new epochs of devices, merging those that began at about the same time."""
    one = tables.change.c
    query = select(one.made_s, one.target).where(
        one.fleet == fleet, one.made_s >= since_s, one.who == DEVICE
    )
    together: defaultdict[int, list[tuple[float, str]]] = defaultdict(list)
    for made_s, name in connection.execute(query.order_by(one.made_s).limit(MOST_EVENTS)):
        together[int(made_s // TOGETHER_S)].append((made_s, name))
    return [
        (found[0][0], MOST_EVENTS, f"{NEW_EPOCH} of {_named([name for _, name in found])}")
        for found in together.values()
    ]


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + f" and {len(names) - MOST_NAMED} others" * (
        len(names) > MOST_NAMED
    )


def away(connection: Connection, fleet: str, since_s: float) -> list[Away]:
    """Return the devices with the longest absence since ``since_s``, by our clock."""
    query = (
        select(_E.device, _E.kind, _E.received_s, _E.payload)
        .where(
            _E.fleet == fleet,
            _E.kind.in_((MessageKind.BIRTH.value, MessageKind.DEATH.value)),
            _E.received_s >= since_s,
        )
        .order_by(_E.received_s.desc())
        .limit(MOST_EVENTS)
    )
    times: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    lost: dict[str, tuple[float, str, int]] = {}
    for row in connection.execute(query).all()[::-1]:
        message = load_stored(MessageKind(row.kind), row.payload)
        if isinstance(message, Death):
            lost[row.device] = (row.received_s, message.epoch, message.session)
        elif isinstance(message, Birth) and row.device in lost:
            lost_s, epoch, session = lost.pop(row.device)
            # A last will can arrive after the birth of the next session.
            if (message.epoch, message.session) != (epoch, session):
                times[row.device] += 1
                seconds[row.device] += row.received_s - lost_s
    newest_s = connection.execute(
        select(func.max(_E.received_s)).where(_E.fleet == fleet)
    ).scalar() or 0.0  # fmt: skip
    for device, (lost_s, _, _) in lost.items():
        times[device] += 1
        seconds[device] += newest_s - lost_s
    worst = sorted(times, key=lambda name: (-seconds[name], name))[:MOST_ERRORS]
    return [Away(name, times[name], seconds[name]) for name in worst]


def errors(connection: Connection, fleet: str) -> list[tuple[str, int, int]]:
    """Return the most frequent errors in the last hour of telemetry.

    Each is (text, number of messages, number of devices). At most the last ``MOST_LOOKED_AT``
    messages are searched.
    """
    newest_s = connection.execute(select(func.max(_T.received_s)).where(_T.fleet == fleet)).scalar()
    if newest_s is None:
        return []
    last = (
        select(_T.device, _T.error)
        .where(_T.fleet == fleet, _T.received_s > newest_s - ERRORS_S)
        .order_by(_T.received_s.desc())
        .limit(MOST_LOOKED_AT)
        .subquery()
        .c
    )
    count = func.count().label("count")
    query = (
        select(last.error, count, func.count(last.device.distinct()))
        .where(last.error != "")
        .group_by(last.error)
        .order_by(count.desc())
        .limit(MOST_ERRORS)
    )
    return [
        (text[:200], messages, devices) for text, messages, devices in connection.execute(query)
    ]
