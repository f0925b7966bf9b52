"""Queries of roll-ups: their cost depends on the result's size, not on the stored messages."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.sql.elements import ColumnElement

from cloud.telemetry import tables
from cloud.telemetry.queries import Slice, Totals
from cloud.telemetry.rollups import ALL, DAY_S, DEVICE_WIDTHS_S, FLEET_WIDTHS_S, MINUTE_S, MONTH_S
from cloud.telemetry.sums import SUMMED, Sums

_R = tables.rollup.c
WITNESSES = 101  # messages whose clocks are compared
CLOSE = 3.0  # a clock is usual within this many median deviations from the median clock


def start_of(connection: Connection, fleet: str, since_s: float) -> float:
    """Convert ``since_s``, an arrival by our clock, to the time of most devices' clocks then.

    The clocks of simulated devices run ahead of ours, and that of a single device may be wrong.
    Without messages of that time, the clocks are assumed to be equal.
    """
    columns = tables.telemetry.c
    query = select(columns.unix_s, columns.received_s).where(
        columns.fleet == fleet, columns.received_s >= since_s
    )
    rows = connection.execute(query.order_by(columns.received_s).limit(WITNESSES)).all()
    if not rows or rows[0].received_s > since_s + DAY_S:
        return since_s
    return usual_clock([tuple(row) for row in rows])[0]


def clock_ahead(connection: Connection, fleet: str) -> float:
    """Return how many seconds most devices' clocks are ahead of ours; 0 without telemetry."""
    columns = tables.telemetry.c
    query = select(columns.unix_s, columns.received_s).where(columns.fleet == fleet)
    rows = connection.execute(query.order_by(columns.received_s.desc()).limit(WITNESSES)).all()
    if not rows:
        return 0.0
    device_s, our_s = usual_clock([tuple(row) for row in rows])
    return device_s - our_s


def usual_clock(times: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the first pair (device's time, our time) whose difference is close to the median."""
    ahead = [device_s - our_s for device_s, our_s in times]
    middle = median(ahead)
    spread = median(abs(one - middle) for one in ahead)
    return next(
        time
        for time, one in zip(times, ahead, strict=True)
        if abs(one - middle) <= CLOSE * spread + MINUTE_S
    )


def rolled_messages(connection: Connection, fleet: str, start_s: float) -> int:
    """Return the number of messages since the minute of ``start_s``."""
    query = select(func.sum(_R.messages)).where(
        *_chosen(fleet, MINUTE_S, start_s), _R.device == ALL
    )
    return int(connection.execute(query).scalar() or 0)


def rolled_totals(connection: Connection, fleet: str, start_s: float = 0.0) -> Totals | None:
    """Return sums over the whole fleet since ``start_s``; None if there is no telemetry."""
    query = select(*_sums(), func.min(_R.start_s), func.max(_R.start_s)).where(
        *_chosen(fleet, DAY_S, start_s), _R.device == ALL
    )
    *sums, first_s, last_s = connection.execute(query).one()
    if first_s is None:
        return None
    last_s += DAY_S - 1  # from the start of the last day to its end
    whole_days_s = start_s // DAY_S * DAY_S
    ends = select(func.min(_R.start_s), func.max(_R.start_s)).where(
        *_chosen(fleet, MINUTE_S, whole_days_s), _R.device == ALL
    )
    fine_first_s, fine_last_s = connection.execute(ends).one()
    # The roll-ups by minute of the first days may have expired.
    if fine_first_s is not None and fine_first_s - first_s < DAY_S:
        first_s = fine_first_s
    if fine_last_s is not None:
        last_s = fine_last_s
    count = select(func.count(_R.device.distinct())).where(
        *_chosen(fleet, MONTH_S, start_s), _R.device != ALL
    )
    devices = connection.execute(count).scalar_one()
    return Totals(**_read_sums(sums), devices=devices, first_s=float(first_s), last_s=float(last_s))


def rolled_totals_by_device(
    connection: Connection, fleet: str, start_s: float = 0.0
) -> dict[str, Totals]:
    """Return sums by device since ``start_s``, in whole days."""
    width_s = DEVICE_WIDTHS_S[0] if start_s else DEVICE_WIDTHS_S[-1]
    query = select(_R.device, *_sums(), func.min(_R.start_s), func.max(_R.start_s))
    query = query.where(*_chosen(fleet, width_s, start_s), _R.device != ALL).group_by(_R.device)
    return {
        name: Totals(**_read_sums(sums), devices=1, first_s=float(first), last_s=float(last))
        for name, *sums, first, last in connection.execute(query)
    }


def rolled_exits(
    connection: Connection, fleet: str, width_s: int, start_s: float = 0.0
) -> dict[str, Sums]:
    """Return sums of each device's exit head since ``start_s``, from roll-ups of ``width_s``."""
    query = select(_R.device, func.sum(_R.exits_asked), func.sum(_R.confidence))
    query = query.where(*_chosen(fleet, width_s, start_s), _R.device != ALL).group_by(_R.device)
    return {
        name: Sums(exits_asked=int(asked), confidence=float(confidence))
        for name, asked, confidence in connection.execute(query)
        if asked
    }


def rolled_slices(
    connection: Connection, fleet: str, width_s: float, start_s: float = 0.0
) -> list[Slice]:
    """Return slices of the whole fleet since ``start_s``, each at least a minute wide."""
    width = max(int(width_s), MINUTE_S)
    level = max(one for one in FLEET_WIDTHS_S if one <= width)
    number = func.floor(_R.start_s / float(width)).label("number")
    query = (
        select(
            number, *_sums(), func.sum(_R.battery), func.min(_R.battery_low),
            func.sum(_R.fraction), func.sum(_R.cloud_fraction),
        )
        .where(*_chosen(fleet, level, start_s), _R.device == ALL)
        .group_by("number")
        .order_by("number")
    )  # fmt: skip
    return [_slice(row, width) for row in connection.execute(query)]


def _slice(row: Sequence[Any], width_s: int) -> Slice:
    number, *sums, battery, battery_low, fraction, cloud_fraction = row
    values = _read_sums(sums)
    cloud = values["answered_cloud"]
    return Slice(
        **values,
        start_s=float(number) * width_s,
        width_s=float(width_s),
        devices=max(round(values["period_s"] / width_s), 1),
        battery=battery / values["messages"],
        battery_low=battery_low,
        fraction=fraction / values["messages"],
        cloud_fraction=cloud_fraction / cloud if cloud else None,
    )


def _sums() -> list[ColumnElement[Any]]:
    summed = ("messages", *SUMMED, "waited_ms", "confidence")
    return [*(func.sum(_R[name]) for name in summed), func.max(_R.latency_max_ms)]


_NAMES = ("messages", *SUMMED, "waited_ms", "confidence", "latency_max_ms")
_EXACT = ("energy_j", "period_s", "idle_j", "waited_ms", "confidence", "latency_max_ms")
_KINDS = [(name, float if name in _EXACT else int) for name in _NAMES]


def _read_sums(row: Sequence[Any]) -> dict[str, Any]:
    return {name: kind(value or 0) for (name, kind), value in zip(_KINDS, row, strict=True)}


def _chosen(fleet: str, width_s: int, start_s: float) -> list[ColumnElement[bool]]:
    # The whole roll-up that contains ``start_s`` counts.
    first = start_s // width_s * width_s
    return [_R.fleet == fleet, _R.width_s == width_s, _R.start_s >= first]
