"""Roll-ups: sums over telemetry by minute, hour, day and 30 days.

The writer adds each new message to its roll-ups in the transaction that stores it, so they are
exact at any time and outlive the messages. Of single devices only days and 30 days are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Select, func, insert, literal, select

from cloud.telemetry import tables
from cloud.telemetry.sums import SUMMED
from shared.fleet.messages import Telemetry

MINUTE_S, HOUR_S, DAY_S, MONTH_S = 60, 3600, 86_400, 2_592_000
FLEET_WIDTHS_S = (MINUTE_S, HOUR_S, DAY_S)
DEVICE_WIDTHS_S = (DAY_S, MONTH_S)
ALL = ""  # the device of sums over a whole fleet
# How long roll-ups are kept, in multiples of the retention of messages; days stay for good.
KEPT_TIMES = {MINUTE_S: 1.0, HOUR_S: 12.0}
Key = tuple[str, int, str, int]  # fleet, width, device, start
_VALUES = ("messages", *SUMMED, "waited_ms", "latency_max_ms", "battery", "battery_low",
           "fraction", "cloud_fraction", "confidence")  # fmt: skip


@dataclass
class _Row:
    """Sums of one roll-up, as they are added up."""

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
    """Return the rows of ``tables.rollup`` that (fleet, message) pairs add."""
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
    """Make all roll-ups from the stored telemetry, for a store that has none."""
    for width_s in FLEET_WIDTHS_S:
        _fill(connection, width_s, whole=True)
    for width_s in DEVICE_WIDTHS_S:
        _fill(connection, width_s, whole=False)


def _fill(connection: Connection, width_s: int, whole: bool) -> None:
    columns = tables.telemetry.c
    answered = columns.answered_device + columns.answered_cloud
    device = literal(ALL) if whole else columns.device
    start_s = func.floor(columns.unix_s / float(width_s)) * width_s
    query: Select[tuple[object, ...]] = select(
        columns.fleet, literal(width_s), device.label("name"), start_s.label("start_s"),
        func.count(), *(func.sum(columns[name]) for name in SUMMED),
        func.sum(columns.latency_ms * answered), func.max(columns.latency_max_ms),
        func.sum(columns.battery), func.min(columns.battery), func.sum(columns.fraction),
        func.sum(columns.cloud_fraction * columns.answered_cloud),
        func.sum(columns.exit_confidence * columns.exits_asked),
    ).group_by(columns.fleet, "name", "start_s")  # fmt: skip
    names = ["fleet", "width_s", "device", "start_s", *_VALUES]
    connection.execute(insert(tables.rollup).from_select(names, query))
