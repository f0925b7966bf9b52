"""What is read from the telemetry store: plain functions of a connection that return frozen values.

engine = open_reading("taper-fleet.sqlite")
with engine.connect() as connection:
rows = devices(connection, "default")
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, func, select
from sqlalchemy.sql.elements import ColumnElement

from cloud.telemetry import tables
from cloud.telemetry.records import Ranges
from shared.errors import UsageError
from shared.fleet.messages import Birth, Death, Kind, Message, Reported, Result, Telemetry
from shared.fleet.payloads import VALUES, from_json

_T = tables.telemetry.c
_MESSAGE = [tables.telemetry.c[name] for name in tables.FIELDS]
ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """The last that is stored of a device; None for what has never come."""

    name: str
    birth: Birth | None = None
    death: Death | None = None
    reported: Reported | None = None
    telemetry: Telemetry | None = None
    received_s: float = 0.0  # when the last of them came

    @property
    def online(self) -> bool:
        """Whether it was here: born, and not dead since."""
        if self.birth is None:
            return False
        return self.death is None or self.death.session < self.birth.session


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that a device said, other than telemetry."""

    device: str
    received_s: float
    message: Birth | Death | Reported | Result


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over telemetry; ``latency_ms`` is the mean over the answered samples."""

    messages: int
    devices: int
    answered_device: int
    answered_cloud: int
    failed: int
    labelled: int
    right: int
    payload_bytes: int
    energy_j: float
    latency_ms: float
    latency_max_ms: float
    dropped: int
    period_s: float
    first_s: float  # ends of the first and of the last period, by the devices' clocks
    last_s: float

    @property
    def accuracy(self) -> float | None:
        """Share of right answers; None without labels."""
        return self.right / self.labelled if self.labelled else None


@dataclass(frozen=True, slots=True)
class Slice:
    """Telemetry of ``width_s`` seconds from ``start_s``, by the devices' clocks.

    Counts and sums over all devices, ``period_s`` that of their periods; ``battery`` and
    ``fraction`` are means over messages, ``latency_ms`` over answered samples, ``battery_low`` is
    the lowest of any device, ``accuracy`` is None without labels.
    """

    start_s: float
    width_s: float
    messages: int
    devices: int
    period_s: float
    battery: float
    battery_low: float
    fraction: float
    cloud_fraction: float | None
    answered_device: int
    answered_cloud: int
    failed: int
    accuracy: float | None
    payload_bytes: int
    energy_j: float
    latency_ms: float | None
    latency_max_ms: float


def fleets(connection: Connection) -> list[str]:
    """The names of the fleets of which anything is stored."""
    names = set(connection.execute(select(tables.device.c.fleet).distinct()).scalars())
    return sorted(
        names | set(connection.execute(select(tables.state.c.fleet).distinct()).scalars())
    )


def check_fleet(connection: Connection, fleet: str) -> None:
    """``UsageError`` that names the fleets there are, if ``fleet`` is none of them."""
    known = fleets(connection)
    if fleet not in known:
        held = f"it has {', '.join(known)}" if known else "it is empty"
        raise UsageError(f"--fleet: the store has nothing of {fleet!r}; {held}")


def devices(connection: Connection, fleet: str) -> list[DeviceRecord]:
    """The last state and telemetry of each device, by name."""
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


def latest(connection: Connection, fleet: str) -> dict[str, tuple[Telemetry, float]]:
    """The telemetry with the highest number of each device, and when it came."""
    # One look into the key a device, instead of one over all telemetry.
    inner = tables.telemetry.alias().c
    highest = (
        select(func.max(inner.sequence))
        .where(inner.fleet == tables.device.c.fleet, inner.device == tables.device.c.device)
        .scalar_subquery()
    )
    joined = and_(
        _T.fleet == tables.device.c.fleet,
        _T.device == tables.device.c.device,
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
    """The last ``limit`` messages of a device that came after ``since_s``, in order."""
    query = (
        select(*_MESSAGE)
        .where(_T.fleet == fleet, _T.device == device, _T.received_s >= since_s)
        .order_by(_T.sequence.desc())
        .limit(limit)
    )
    return [Telemetry(*row) for row in connection.execute(query)][::-1]


def history(
    connection: Connection, fleet: str, device: str | None = None, limit: int = 1000
) -> list[Happening]:
    """The last births, deaths, reported states and results, of one device or of all, in order."""
    columns = tables.event.c
    query = select(tables.event).where(columns.fleet == fleet)
    if device is not None:
        query = query.where(columns.device == device)
    query = query.order_by(columns.received_s.desc(), columns.device).limit(limit)
    rows = connection.execute(query).all()[::-1]
    return [Happening(row.device, row.received_s, _parsed(row.kind, row.payload)) for row in rows]


def totals(
    connection: Connection, fleet: str, device: str | None = None, since_s: float = 0.0
) -> Totals | None:
    """Sums over what came after ``since_s``; None if nothing did."""
    query = select(*_sums()).where(*_chosen(fleet, device, since_s))
    row = connection.execute(query).one()
    return _totals(row) if row[0] else None


def totals_by_device(connection: Connection, fleet: str, since_s: float = 0.0) -> dict[str, Totals]:
    """Sums over what came of each device after ``since_s``."""
    query = select(_T.device, *_sums()).where(*_chosen(fleet, None, since_s)).group_by(_T.device)
    return {name: _totals(row) for name, *row in connection.execute(query)}


def _sums() -> list[ColumnElement[Any]]:
    answered = _T.answered_device + _T.answered_cloud
    summed = (
        "answered_device", "answered_cloud", "failed", "labelled", "right", "payload_bytes",
        "energy_j", "dropped", "period_s",
    )  # fmt: skip
    return [
        func.count(),
        func.count(_T.device.distinct()),
        *(func.sum(_T[name]) for name in summed),
        func.sum(_T.latency_ms * answered) / func.nullif(func.sum(answered), 0),
        func.max(_T.latency_max_ms),
        func.min(_T.unix_s),
        func.max(_T.unix_s),
    ]


def _totals(row: Sequence[Any]) -> Totals:
    messages, count, own, cloud, failed, labelled, right, size_bytes, energy_j, *rest = row
    dropped, period_s, latency_ms, latency_max_ms, first_s, last_s = rest
    return Totals(
        messages=messages,
        devices=count,
        answered_device=int(own),
        answered_cloud=int(cloud),
        failed=int(failed),
        labelled=int(labelled),
        right=int(right),
        payload_bytes=int(size_bytes),
        energy_j=float(energy_j),
        latency_ms=float(latency_ms or 0),
        latency_max_ms=latency_max_ms,
        dropped=int(dropped),
        period_s=float(period_s),
        first_s=first_s,
        last_s=last_s,
    )


def slices(
    connection: Connection,
    fleet: str,
    width_s: float,
    device: str | None = None,
    since_s: float = 0.0,
) -> list[Slice]:
    """Telemetry in slices of time, in order; slices in which nothing happened are left out."""
    answered = _T.answered_device + _T.answered_cloud
    number = func.floor(_T.unix_s / float(width_s)).label("number")
    query = (
        select(
            number, func.count(), func.count(_T.device.distinct()), func.sum(_T.period_s),
            func.avg(_T.battery), func.min(_T.battery), func.avg(_T.fraction),
            func.sum(_T.cloud_fraction * _T.answered_cloud)
            / func.nullif(func.sum(_T.answered_cloud), 0),
            func.sum(_T.answered_device), func.sum(_T.answered_cloud), func.sum(_T.failed),
            func.sum(_T.right), func.sum(_T.labelled),
            func.sum(_T.payload_bytes), func.sum(_T.energy_j),
            func.sum(_T.latency_ms * answered) / func.nullif(func.sum(answered), 0),
            func.max(_T.latency_max_ms),
        )
        .where(*_chosen(fleet, device, since_s))
        .group_by("number")
        .order_by("number")
    )  # fmt: skip
    return [_slice(row, width_s) for row in connection.execute(query)]


def _slice(row: Any, width_s: float) -> Slice:
    number, messages, count, period_s, battery, battery_low, fraction, *rest = row
    cloud_fraction, own, cloud, failed, right, labelled, *rest = rest
    size_bytes, energy_j, latency_ms, latency_max_ms = rest
    return Slice(
        start_s=float(number) * width_s,
        width_s=width_s,
        messages=messages,
        devices=count,
        period_s=float(period_s),
        battery=float(battery),
        battery_low=battery_low,
        fraction=float(fraction),
        cloud_fraction=None if cloud_fraction is None else float(cloud_fraction),
        answered_device=int(own),
        answered_cloud=int(cloud),
        failed=int(failed),
        accuracy=int(right) / int(labelled) if labelled else None,
        payload_bytes=int(size_bytes),
        energy_j=float(energy_j),
        latency_ms=None if latency_ms is None else float(latency_ms),
        latency_max_ms=float(latency_max_ms),
    )


def rows(
    connection: Connection, fleet: str, since_s: float = 0.0
) -> Iterator[list[tuple[Any, ...]]]:
    """All columns of ``tables.telemetry``, some thousand rows at a time, by device and number."""
    query = select(tables.telemetry).where(*_chosen(fleet, None, since_s))
    query = query.order_by(_T.device, _T.sequence)
    with connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query) as streamed:
        for part in streamed.partitions():
            yield [tuple(row) for row in part]


def count_rows(connection: Connection, fleet: str, since_s: float = 0.0) -> int:
    """How many rows ``rows`` gives."""
    query = select(func.count()).select_from(tables.telemetry)
    return connection.execute(query.where(*_chosen(fleet, None, since_s))).scalar_one()


def stored_sequences(connection: Connection, fleet: str) -> dict[str, Ranges]:
    """For each device the sequence numbers that are stored, or were before they got too old."""
    found: dict[str, list[tuple[int, int]]] = {}
    gone = tables.expired.c
    query = select(gone.device, gone.first, gone.last).where(gone.fleet == fleet)
    for name, first, last in connection.execute(query):
        found.setdefault(name, []).append((first, last))
    for name, first, last in connection.execute(runs(_T.fleet == fleet)):
        found.setdefault(name, []).append((first, last))
    return {name: joined(ranges) for name, ranges in found.items()}


def runs(condition: ColumnElement[bool]) -> Select[Any]:
    """Device, first and last of each unbroken run of numbers among the telemetry of one fleet."""
    place = func.row_number().over(partition_by=_T.device, order_by=_T.sequence)
    numbered = select(_T.device, _T.sequence, (_T.sequence - place).label("run"))
    inner = numbered.where(condition).subquery()
    return select(inner.c.device, func.min(inner.c.sequence), func.max(inner.c.sequence)).group_by(
        inner.c.device, inner.c.run
    )


def joined(ranges: list[tuple[int, int]]) -> Ranges:
    """``ranges`` in order, those that touch or overlap made one."""
    made: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if made and first <= made[-1][1] + 1:
            made[-1] = (made[-1][0], max(made[-1][1], last))
        else:
            made.append((first, last))
    return tuple(made)


def _chosen(fleet: str, device: str | None, since_s: float) -> list[ColumnElement[bool]]:
    conditions = [_T.fleet == fleet, _T.received_s >= since_s]
    return conditions if device is None else [*conditions, _T.device == device]


def _parsed(kind: str, payload: str) -> Any:
    message: Message = from_json(VALUES[Kind(kind)], json.loads(payload))
    return message
