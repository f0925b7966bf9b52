"""Queries of the telemetry store: functions of a connection that return frozen values.

Example: ``with reading("taper-fleet.sqlite") as connection: rows = devices(connection, "default")``
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, select
from sqlalchemy.sql.elements import ColumnElement

from cloud.telemetry import tables
from cloud.telemetry.records import Ranges
from cloud.telemetry.sums import SUMMED, Sums
from shared.errors import UsageError
from shared.fleet.messages import (
    Birth,
    Death,
    Desired,
    Message,
    MessageKind,
    Reported,
    Result,
    Telemetry,
    is_online,
)
from shared.fleet.payloads import load_stored

_T = tables.telemetry.c
_MESSAGE = [tables.telemetry.c[name] for name in tables.FIELDS]
ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """The latest stored messages of a device; None for kinds that it never sent."""

    name: str
    birth: Birth | None = None
    death: Death | None = None
    reported: Reported | None = None
    telemetry: Telemetry | None = None
    desired: Desired | None = None
    received_s: float = 0.0  # arrival of the latest of these messages

    @property
    def online(self) -> bool:
        """Whether the device was connected according to its last birth and death."""
        return is_online(self.birth, self.death)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A stored message of a device other than telemetry."""

    device: str
    received_s: float
    message: Birth | Death | Desired | Reported | Result


@dataclass(frozen=True, kw_only=True)
class Totals(Sums):
    """Sums over telemetry of some devices; times are ends of periods by the devices' clocks."""

    devices: int
    first_s: float
    last_s: float


@dataclass(frozen=True, kw_only=True)
class Slice(Sums):
    """Sums over the telemetry of ``width_s`` seconds from ``start_s``, by the devices' clocks.

    ``battery`` and ``fraction`` are means over messages, ``cloud_fraction`` is the mean over the
    cloud's answers (None without any). ``battery_low`` is the lowest value of any device.
    """

    start_s: float
    width_s: float
    devices: int
    battery: float = 0.0
    battery_low: float = 0.0
    fraction: float = 0.0
    cloud_fraction: float | None = None


def fleets(connection: Connection) -> list[str]:
    """Return the names of the fleets in the store."""
    names = set(connection.execute(select(tables.device.c.fleet).distinct()).scalars())
    return sorted(
        names | set(connection.execute(select(tables.state.c.fleet).distinct()).scalars())
    )


def check_fleet(connection: Connection, fleet: str) -> None:
    """Raise ``UsageError``, which lists the stored fleets, unless ``fleet`` is one of them."""
    known = fleets(connection)
    if fleet not in known:
        held = f"it has {', '.join(known)}" if known else "it is empty"
        raise UsageError(f"--fleet: the store has nothing of {fleet!r}; {held}")


def states(connection: Connection, fleet: str) -> dict[str, dict[MessageKind, Message]]:
    """Return the last birth, death, desired and reported state of each device, by kind."""
    columns = tables.state.c
    query = select(columns.device, columns.kind, columns.payload).where(columns.fleet == fleet)
    found: dict[str, dict[MessageKind, Message]] = {}
    for name, kind, payload in connection.execute(query):
        found.setdefault(name, {})[MessageKind(kind)] = _parsed(kind, payload)
    return found


def devices(connection: Connection, fleet: str) -> list[DeviceRecord]:
    """Return the latest state and telemetry of each device, by name."""
    said: dict[str, dict[str, Any]] = {}
    where = tables.state.c.fleet == fleet
    for row in connection.execute(select(tables.state).where(where)):
        one = said.setdefault(row.device, {"received_s": 0.0})
        one[row.kind] = _parsed(row.kind, row.payload)
        one["received_s"] = max(one["received_s"], row.received_s)
    sent = latest(connection, fleet)
    made = []
    for name in sorted(said.keys() | sent.keys()):
        given = said.get(name, {"received_s": 0.0})
        message, received_s = sent.get(name, (None, 0.0))
        given["received_s"] = max(given["received_s"], received_s)
        made.append(DeviceRecord(name, telemetry=message, **given))
    return made


def births(connection: Connection, fleet: str) -> dict[str, Birth]:
    """Return the last birth of each device."""
    columns = tables.state.c
    kind = MessageKind.BIRTH.value
    query = select(columns.device, columns.payload).where(
        columns.fleet == fleet, columns.kind == kind
    )
    return {name: _parsed(kind, payload) for name, payload in connection.execute(query)}


def desired_states(connection: Connection, fleet: str) -> dict[str, Desired]:
    """Return the last desired state of each device."""
    columns = tables.state.c
    kind = MessageKind.DESIRED.value
    query = select(columns.device, columns.payload).where(
        columns.fleet == fleet, columns.kind == kind
    )
    return {name: _parsed(kind, payload) for name, payload in connection.execute(query)}


def latest(connection: Connection, fleet: str) -> dict[str, tuple[Telemetry, float]]:
    """Return each device's telemetry with the highest sequence number, and its arrival."""
    # One index search for each device instead of a scan of all telemetry.
    inner = tables.telemetry.alias().c
    highest = (
        select(func.max(inner.sequence))
        .where(
            inner.fleet == tables.device.c.fleet,
            inner.device == tables.device.c.device,
            inner.epoch == tables.device.c.epoch,
        )
        .scalar_subquery()
    )
    joined = and_(
        _T.fleet == tables.device.c.fleet,
        _T.device == tables.device.c.device,
        _T.epoch == tables.device.c.epoch,
        _T.sequence == highest,
    )
    query = (
        select(*_MESSAGE, _T.received_s)
        .select_from(tables.device.join(tables.telemetry, joined))
        .where(tables.device.c.fleet == fleet)
    )
    return {row[0]: (Telemetry(*row[:-1]), row[-1]) for row in connection.execute(query)}


def timeline(
    connection: Connection, fleet: str, device: str, since_s: float = 0.0, limit: int = 1000
) -> list[Telemetry]:
    """Return the last ``limit`` telemetry messages of a device that arrived since ``since_s``."""
    known = tables.device.c
    present = select(known.epoch).where(known.fleet == fleet, known.device == device)
    query = (
        select(*_MESSAGE)
        .where(_T.fleet == fleet, _T.device == device, _T.received_s >= since_s)
        .order_by((_T.epoch == present.scalar_subquery()).desc(), _T.sequence.desc())
        .limit(limit)
    )
    return [Telemetry(*row) for row in connection.execute(query)][::-1]


def history(
    connection: Connection, fleet: str, device: str | None = None, limit: int = 1000
) -> list[StoredEvent]:
    """Return the last ``limit`` messages other than telemetry, in order of arrival."""
    columns = tables.event.c
    query = select(tables.event).where(columns.fleet == fleet)
    if device is not None:
        query = query.where(columns.device == device)
    query = query.order_by(columns.received_s.desc(), columns.device).limit(limit)
    rows = connection.execute(query).all()[::-1]
    return [StoredEvent(row.device, row.received_s, _parsed(row.kind, row.payload)) for row in rows]


def totals(
    connection: Connection, fleet: str, device: str | None = None, since_s: float = 0.0
) -> Totals | None:
    """Return sums over telemetry that arrived since ``since_s``; None if there is none."""
    query = select(*_sums(), *_ends()).where(*_chosen(fleet, device, since_s))
    row = connection.execute(query).one()
    return _totals(row) if row[0] else None


def totals_by_device(connection: Connection, fleet: str, since_s: float = 0.0) -> dict[str, Totals]:
    """Return sums over telemetry that arrived since ``since_s``, by device."""
    query = select(_T.device, *_sums(), *_ends()).where(*_chosen(fleet, None, since_s))
    query = query.group_by(_T.device)
    return {name: _totals(row) for name, *row in connection.execute(query)}


def _ends() -> list[ColumnElement[Any]]:
    return [func.min(_T.unix_s), func.max(_T.unix_s)]


def sums_since(
    connection: Connection, fleet: str, after_s: float
) -> dict[tuple[str, str, str], Sums]:
    """Return sums over telemetry after ``after_s``, by (device, model, model version)."""
    key = (_T.device, _T.model, _T.model_version)
    query = select(*key, *_sums()).where(_T.fleet == fleet, _T.received_s > after_s).group_by(*key)
    found = {}
    for device, model, version, *row in connection.execute(query):
        values = _read_sums(row)
        del values["devices"]
        found[device, model, version] = Sums(**values)
    return found


def newest_s(connection: Connection, fleet: str) -> float:
    """Return the arrival of the newest telemetry; 0 without any."""
    query = select(func.max(_T.received_s)).where(_T.fleet == fleet)
    return float(connection.execute(query).scalar() or 0.0)


def _sums() -> list[ColumnElement[Any]]:
    """The columns of ``Sums``, then the number of devices."""
    answered = _T.answered_device + _T.answered_cloud
    return [
        func.count(),
        *(func.sum(_T[name]) for name in SUMMED),
        func.sum(_T.latency_ms * answered),
        func.max(_T.latency_max_ms),
        func.sum(_T.exit_confidence * _T.exits_asked),
        func.count(_T.device.distinct()),
    ]


def _read_sums(row: Sequence[Any]) -> dict[str, Any]:
    """The fields of ``Sums`` and the number of devices in a row of ``_sums``."""
    messages, *summed, waited_ms, latency_max_ms, confidence, count = row
    exact = {"energy_j": float, "period_s": float, "idle_j": float}
    return {
        "messages": messages,
        **{n: exact.get(n, int)(value) for n, value in zip(SUMMED, summed, strict=True)},
        "waited_ms": float(waited_ms),
        "latency_max_ms": float(latency_max_ms),
        "confidence": float(confidence),
        "devices": count,
    }


def _totals(row: Sequence[Any]) -> Totals:
    *sums, first_s, last_s = row
    return Totals(**_read_sums(sums), first_s=first_s, last_s=last_s)


def slices(
    connection: Connection,
    fleet: str,
    width_s: float,
    device: str | None = None,
    since_s: float = 0.0,
) -> list[Slice]:
    """Return telemetry summed over slices of ``width_s`` seconds, in order, without empty ones."""
    number = func.floor(_T.unix_s / float(width_s)).label("number")
    cloud = func.sum(_T.answered_cloud)
    query = (
        select(
            number, *_sums(), func.avg(_T.battery), func.min(_T.battery), func.avg(_T.fraction),
            func.sum(_T.cloud_fraction * _T.answered_cloud) / func.nullif(cloud, 0),
        )
        .where(*_chosen(fleet, device, since_s))
        .group_by("number")
        .order_by("number")
    )  # fmt: skip
    return [_slice(row, width_s) for row in connection.execute(query)]


def _slice(row: Sequence[Any], width_s: float) -> Slice:
    number, *sums, battery, battery_low, fraction, cloud_fraction = row
    return Slice(
        **_read_sums(sums),
        start_s=float(number) * width_s,
        width_s=width_s,
        battery=float(battery),
        battery_low=battery_low,
        fraction=float(fraction),
        cloud_fraction=None if cloud_fraction is None else float(cloud_fraction),
    )


def rows(
    connection: Connection, fleet: str, since_s: float = 0.0
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of ``tables.telemetry`` by device and number, a few thousand at a time."""
    query = select(tables.telemetry).where(*_chosen(fleet, None, since_s))
    query = query.order_by(_T.device, _T.epoch, _T.sequence)
    with connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query) as streamed:
        for part in streamed.partitions():
            yield [tuple(row) for row in part]


def count_rows(connection: Connection, fleet: str, since_s: float = 0.0) -> int:
    """Return the number of rows that ``rows`` yields."""
    query = select(func.count()).select_from(tables.telemetry)
    return connection.execute(query.where(*_chosen(fleet, None, since_s))).scalar_one()


def stored_sequences(connection: Connection, fleet: str) -> dict[tuple[str, str], Ranges]:
    """Return all sequence numbers ever stored, by (device, epoch), including expired ones."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    columns = tables.received.c
    query = select(columns.device, columns.epoch, columns.first, columns.last)
    query = query.where(columns.fleet == fleet).order_by(
        columns.device, columns.epoch, columns.first
    )
    for name, epoch, first, last in connection.execute(query):
        found.setdefault((name, epoch), []).append((first, last))
    return {key: tuple(ranges) for key, ranges in found.items()}


def _chosen(fleet: str, device: str | None, since_s: float) -> list[ColumnElement[bool]]:
    conditions = [_T.fleet == fleet, _T.received_s >= since_s]
    return conditions if device is None else [*conditions, _T.device == device]


def _parsed(kind: str, payload: str) -> Any:
    return load_stored(MessageKind(kind), payload)
