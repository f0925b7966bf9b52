"""Roll-ups: sums over telemetry by minute, hour, day and 30 days.

The writer adds each new message to its roll-ups in the transaction that stores the message, so
roll-ups are always exact, and they outlive the messages. For single devices there are only
roll-ups by day and by 30 days.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import Connection, Select, func, insert, literal, select

from cloud.telemetry import tables
from cloud.telemetry.sums import SUMMED
from shared.fleet.messages import Telemetry

MINUTE_S, HOUR_S, DAY_S, MONTH_S = 60, 3600, 86_400, 2_592_000
FLEET_WIDTHS_S = (MINUTE_S, HOUR_S, DAY_S)
DEVICE_WIDTHS_S = (DAY_S, MONTH_S)
ALL = ""  # the device of sums over a whole fleet
# How long roll-ups are kept, in multiples of the retention of messages; days are kept for ever.
KEPT_TIMES = {MINUTE_S: 1.0, HOUR_S: 12.0}
Key = tuple[str, int, str, int]  # fleet, width, device, start
_VALUES = ("messages", *SUMMED, "waited_ms", "latency_max_ms", "battery", "battery_low",
           "fraction", "cloud_fraction", "confidence")  # fmt: skip


@dataclass
class _Row:
    """The sums of one roll-up while messages are added."""

    values: list[float]

    def add(self, one: Telemetry) -> None:
        values = self.values
        values[0] += 1
        for place, name in enumerate(SUMMED, 1):
            values[place] += getattr(one, name)
        place = len(SUMMED) + 1
        values[place] += one.latency_ms * one.answered
        values[place + 1] = max(values[place + 1], one.latency_max_ms)
        values[place + 2] += one.battery
        values[place + 3] = min(values[place + 3], one.battery)
        values[place + 4] += one.fraction
        values[place + 5] += one.cloud_fraction * one.answered_cloud
        values[place + 6] += one.exit_confidence * one.exits_asked


def roll_up(messages: Iterable[tuple[str, Telemetry]]) -> list[tuple[object, ...]]:
    """Return rows of ``tables.rollup`` that hold the sums of (fleet, message) pairs."""
    empty = [0] * (len(SUMMED) + 3) + [0.0, 1.0, 0.0, 0.0, 0.0]
    rows: dict[Key, _Row] = {}
    for fleet, one in messages:
        keys = [(fleet, width_s, ALL) for width_s in FLEET_WIDTHS_S]
        keys += [(fleet, width_s, one.device) for width_s in DEVICE_WIDTHS_S]
        for fleet_name, width_s, device in keys:
            key = fleet_name, width_s, device, int(one.unix_s // width_s) * width_s
            row = rows.get(key)
            if row is None:
                row = rows[key] = _Row([*empty])
            row.add(one)
    return [(*key, *row.values) for key, row in sorted(rows.items())]


def fill(connection: Connection) -> None:
    """Compute all roll-ups from the stored telemetry, for a store that has none.

    Telemetry is read twice; wider roll-ups are summed from narrower ones.
    """
    for widths in (FLEET_WIDTHS_S, DEVICE_WIDTHS_S):
        whole = widths is FLEET_WIDTHS_S
        _add(connection, _of_messages(widths[0], whole))
        for finer, width_s in pairwise(widths):
            _add(connection, _of_rollups(finer, width_s, whole))


def _of_messages(width_s: int, whole: bool) -> Select[tuple[object, ...]]:
    columns = tables.telemetry.c
    answered = columns.answered_device + columns.answered_cloud
    device = literal(ALL) if whole else columns.device
    start_s = func.floor(columns.unix_s / float(width_s)) * width_s
    return select(
        columns.fleet, literal(width_s), device.label("name"), start_s.label("start"),
        func.count(), *(func.sum(columns[name]) for name in SUMMED),
        func.sum(columns.latency_ms * answered), func.max(columns.latency_max_ms),
        func.sum(columns.battery), func.min(columns.battery), func.sum(columns.fraction),
        func.sum(columns.cloud_fraction * columns.answered_cloud),
        func.sum(columns.exit_confidence * columns.exits_asked),
    ).group_by(columns.fleet, "name", "start")  # fmt: skip


def _of_rollups(finer_s: int, width_s: int, whole: bool) -> Select[tuple[object, ...]]:
    columns = tables.rollup.alias().c
    start_s = func.floor(columns.start_s / float(width_s)) * width_s
    sums = [
        func.max(columns[name]) if name == "latency_max_ms"
        else func.min(columns[name]) if name == "battery_low"
        else func.sum(columns[name])
        for name in _VALUES
    ]  # fmt: skip
    of_all = columns.device == ALL
    return (
        select(columns.fleet, literal(width_s), columns.device.label("name"),
               start_s.label("start"), *sums)
        .where(columns.width_s == finer_s, of_all if whole else ~of_all)
        .group_by(columns.fleet, "name", "start")
    )  # fmt: skip


def _add(connection: Connection, query: Select[tuple[object, ...]]) -> None:
    names = ["fleet", "width_s", "device", "start_s", *_VALUES]
    connection.execute(insert(tables.rollup).from_select(names, query))
