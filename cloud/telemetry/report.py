"""A report on a fleet: one HTML page without external resources."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import Connection

from cloud.telemetry.estimates import Estimate, drift, exit_accuracy
from cloud.telemetry.figures import drawings
from cloud.telemetry.marks import away, errors, marks
from cloud.telemetry.queries import (
    Slice,
    Totals,
    births,
    slices,
    stored_sequences,
    totals,
    totals_by_device,
)
from cloud.telemetry.records import Ranges
from cloud.telemetry.rolled import (
    rolled_exits,
    rolled_messages,
    rolled_slices,
    rolled_totals,
    rolled_totals_by_device,
    start_of,
)
from cloud.telemetry.rollups import DAY_S, MONTH_S
from cloud.telemetry.sums import Sums, add_up
from shared.errors import UsageError
from shared.fleet.messages import LATEST_UNIX_S

MOST_POINTS = 150  # slices of a figure
WIDTHS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 86_400, 604_800)
SPREAD = 10  # clocks are wrong if they are off by more than this many spans of nearly all
TEMPLATE = "report.html.j2"
EXACT_S, EXACT_MESSAGES = 86_400.0, 20_000
MOST_WORST, MOST_GAPS = 10, 5


@dataclass(frozen=True)
class Row:
    """A row of the table, formatted: the whole fleet, a group or a device."""

    name: str
    devices: int
    samples: int
    right: str
    device: str
    cloud: str
    failed: str
    looks: str
    size_bytes: str
    energy_mj: str
    latency_ms: str
    idle_mw: str
    exits: str


def render(connection: Connection, fleet: str, since_s: float = 0.0) -> str:
    """Return an HTML page about what arrived since ``since_s``; ``UsageError`` if nothing did.

    A period of at most a day with at most ``EXACT_MESSAGES`` is computed from messages. Longer ones
    are computed from roll-ups, in whole days of the devices' time.
    """
    start_s = start_of(connection, fleet, since_s) if since_s else 0.0
    exact = since_s > time.time() - EXACT_S and (
        rolled_messages(connection, fleet, start_s) <= EXACT_MESSAGES
    )
    if exact:
        whole = totals(connection, fleet, since_s=since_s)
        of_devices = totals_by_device(connection, fleet, since_s)

        def cut(width_s: float) -> list[Slice]:
            return slices(connection, fleet, width_s, since_s=since_s)
    else:
        whole = rolled_totals(connection, fleet, start_s)
        of_devices = rolled_totals_by_device(connection, fleet, start_s)

        def cut(width_s: float) -> list[Slice]:
            return rolled_slices(connection, fleet, width_s, start_s)

    if whole is None:
        raise UsageError(f"--since: the store has no telemetry of {fleet} since then")
    drawn, far_off = series(whole, cut)
    sequences = stored_sequences(connection, fleet)
    first_s, last_s = drawn[0].start_s, drawn[-1].start_s + drawn[-1].width_s
    last_day_s = min(whole.last_s, last_s - 1)  # ignores clocks that are far ahead
    changed = None if exact else confidence_drift(connection, fleet, last_day_s)
    done = [one for one in marks(connection, fleet, since_s) if first_s <= one.unix_s <= last_s]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(TEMPLATE).render(
        fleet=fleet,
        whole=whole,
        rows=[row(f"all of {fleet}", [whole]), *groups(connection, fleet, of_devices)],
        worst=[row(name, [of_devices[name]]) for name in worst(of_devices)],
        gaps=gaps(sequences),
        away=[
            (one.device, one.times, span(round(one.seconds)))
            for one in away(connection, fleet, since_s)
        ],
        errors=errors(connection, fleet),
        marks=[(moment(one.unix_s), one.text) for one in done],
        drawings=drawings(drawn, done),
        drift=changed,
        width=span(drawn[0].width_s),
        first=moment(drawn[0].start_s),
        last=moment(drawn[-1].start_s + drawn[-1].width_s),
        far_off=far_off,
        missing=sum(map(holes, sequences.values())),
    )


def confidence_drift(connection: Connection, fleet: str, last_s: float) -> Estimate | None:
    """Return the change of the exit head's confidence on the day of ``last_s`` from earlier days.

    Telemetry of devices whose clocks are ahead counts as the last day's.
    """
    every = rolled_exits(connection, fleet, MONTH_S)
    last = rolled_exits(connection, fleet, DAY_S, last_s)
    pairs = []
    for name, now in last.items():
        asked = every[name].exits_asked - now.exits_asked
        before = Sums(exits_asked=asked, confidence=every[name].confidence - now.confidence)
        pairs.append((before, now))
    return drift(pairs)


def series(whole: Totals, cut: Callable[[float], list[Slice]]) -> tuple[list[Slice], int]:
    """Return the slices to draw, and the number of messages left out because of wrong clocks.

    ``cut`` returns the slices of a given width. A device without a real-time clock starts in 1970;
    one such message would stretch the axis so that all others lie on one point.
    """
    first_s, last_s = whole.first_s, whole.last_s
    while True:
        every = cut(max((last_s - first_s) / 1000, 1.0))
        near = nearly_all(within(every, first_s, last_s))
        nearest_s, farthest_s = near[0].start_s, near[-1].start_s + near[-1].width_s
        if last_s - first_s <= SPREAD * (farthest_s - nearest_s):
            break
        first_s, last_s = nearest_s, farthest_s
    # At least two telemetry periods wide, so that each slice has messages of every device.
    width_s = slice_width(max(last_s - first_s, 2 * MOST_POINTS * whole.period_s / whole.messages))
    drawn = within(cut(width_s), first_s, last_s)
    return drawn, whole.messages - sum(one.messages for one in drawn)


def worst(of_devices: dict[str, Totals]) -> list[str]:
    """Return the worst devices: those with most failures, then those with fewest right answers."""

    def badness(name: str) -> tuple[float, float]:
        one = of_devices[name]
        return one.failures or 0.0, -1.0 if one.accuracy is None else 1 - one.accuracy

    return sorted(of_devices, key=lambda name: (*badness(name), name), reverse=True)[:MOST_WORST]


def gaps(sequences: dict[tuple[str, str], Ranges]) -> list[tuple[str, int, str]]:
    """Return the devices with the most missing messages: name, number, first ranges as text."""
    found = []
    for (name, _), ranges in sequences.items():
        count = holes(ranges)
        if count:
            runs = [(a[1] + 1, b[0] - 1) for a, b in pairwise(ranges)]
            text = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in runs[:MOST_GAPS])
            found.append((name, count, text + ", ..." * (len(runs) > MOST_GAPS)))
    return sorted(found, key=lambda gap: -gap[1])[:MOST_WORST]


def within(every: Sequence[Slice], first_s: float, last_s: float) -> list[Slice]:
    """Return the slices that overlap the time from ``first_s`` to ``last_s``."""
    return [one for one in every if first_s - one.width_s < one.start_s <= last_s]


def nearly_all(ordered: Sequence[Slice]) -> list[Slice]:
    """Return the slices without the first and last hundredth of the messages."""
    count = sum(one.messages for one in ordered)
    kept, before = [], 0
    for one in ordered:
        after = before + one.messages
        if after > count / 100 and before < count * 99 / 100:
            kept.append(one)
        before = after
    return kept


def slice_width(seconds: float) -> float:
    """Return a round width that divides ``seconds`` into at most ``MOST_POINTS`` slices."""
    needed = seconds / MOST_POINTS
    for width_s in WIDTHS_S:
        if width_s >= needed:
            return width_s
    return WIDTHS_S[-1] * math.ceil(needed / WIDTHS_S[-1])


def groups(connection: Connection, fleet: str, of_devices: dict[str, Totals]) -> list[Row]:
    """Return a row for each group; a device in several groups counts in each."""
    members: dict[str, list[Totals]] = defaultdict(list)
    for name, birth in births(connection, fleet).items():
        if name in of_devices:
            for group in birth.groups:
                members[group].append(of_devices[name])
    return [row(name, members[name]) for name in sorted(members)]


def row(name: str, of: Sequence[Totals]) -> Row:
    """Return a row of the table with the sum of ``of``."""
    sums = add_up(of)
    return Row(
        name=name,
        devices=sum(one.devices for one in of),
        samples=sums.samples,
        right=percent(sums.right, sums.labelled),
        device=percent(sums.answered_device, sums.samples),
        cloud=percent(sums.answered_cloud, sums.samples),
        failed=percent(sums.failed, sums.samples),
        looks="" if sums.looks_per_answer is None else f"{sums.looks_per_answer:.2f}",
        size_bytes=ratio(sums.payload_bytes, sums.samples),
        energy_mj=ratio(1000 * (sums.energy_j - sums.idle_j), sums.samples),
        latency_ms=ratio(sums.waited_ms, sums.answered),
        idle_mw=ratio(1000 * sums.idle_j, sums.period_s),
        exits=interval(exit_accuracy(sums)),
    )


def interval(estimate: Estimate | None) -> str:
    """Format an estimate and its interval in percent."""
    if estimate is None:
        return "-"
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:.1f} % ({low:.1f} to {high:.1f})"


def holes(ranges: Ranges) -> int:
    """Return how many numbers are missing between the ranges."""
    return sum(after[0] - before[1] - 1 for before, after in pairwise(ranges))


def percent(part: float, whole: float) -> str:
    """Format a share as a percentage."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def ratio(part: float, whole: float) -> str:
    """Format a quotient with three digits."""
    if not whole:
        return "-"
    value = part / whole
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def span(seconds: float) -> str:
    """Format a duration in its largest unit."""
    for unit, size_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size_s:
            return f"{seconds / size_s:.3g} {unit}"
    return f"{seconds:g} s"


def moment(unix_s: float) -> str:
    """Format a time in UTC."""
    unix_s = min(unix_s, LATEST_UNIX_S)  # a device's clock may show any time
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M")
