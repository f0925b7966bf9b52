"""Compute the contents of the dashboard from the state of the fleet. Pure."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from cloud.fleet.problems import problems, silent_after_s
from cloud.fleet.state import DeviceState
from cloud.telemetry.estimates import Estimate, drift, exit_accuracy
from cloud.telemetry.recent import Recent
from cloud.telemetry.sums import Sums, add_up
from shared.fleet.messages import Telemetry

REMEMBERED = 400  # messages kept for the timeline of a device
REMEMBERED_IN_ALL = 400_000  # messages kept of all devices, so fewer of each in a large fleet
MOST_ROWS = 500  # rows of the table; browsers become slow with more
BATTERY_BINS = 10
MOST_POINTS = 1000  # points of the chart of accuracy over energy


@dataclass
class Tail:
    """The last telemetry messages of a device, and the arrival of the latest."""

    messages: deque[Telemetry] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    seen_s: float = 0.0
    recent: Recent = field(default_factory=Recent)

    def add(self, message: Telemetry, seen_s: float, devices: int = 1) -> None:
        """Add a message that arrived at ``seen_s``; ``devices`` is the size of the fleet."""
        self.messages.append(message)
        while len(self.messages) > max(REMEMBERED_IN_ALL // devices, 1):
            self.messages.popleft()
        self.seen_s = seen_s
        self.recent.add(message)


NOTHING = Tail()  # for devices without telemetry


@dataclass(frozen=True)
class Row:
    """A row of the table of devices."""

    name: str
    groups: str
    online: bool
    pending: bool
    battery: float | None
    plugged: bool
    fraction: float | None
    accuracy: float | None
    energy_mj: float | None
    rate: float
    latency_ms: float | None
    seen_s: float
    error: str
    problems: tuple[str, ...] = ()
    model: str = ""
    version: str = ""  # the model's version
    refused: str = ""
    silent_s: float = math.inf  # monotonic time from which the device counts as silent


@dataclass(frozen=True)
class GroupRow:
    """A row of the table of groups; means are over the connected devices."""

    name: str
    devices: int
    online: int
    problems: int
    rate: float
    battery: float | None
    sums: Sums


@dataclass(frozen=True)
class Summary:
    """A summary of the whole fleet; None for unknown numbers."""

    devices: int
    online: int
    pending: int
    rate: float
    on_device: float | None
    accuracy: float | None
    bytes_per_answer: float | None
    energy_mj: float | None
    battery: float | None
    looks: float | None = None  # mean looks at a sample
    exits: Estimate | None = None  # share of local answers that audits confirmed
    drift: Estimate | None = None  # change of the exit head's confidence


@dataclass(frozen=True)
class View:
    """The contents of the first page, except for the cloud's."""

    summary: Summary
    rows: tuple[Row, ...]
    battery_bins: tuple[int, ...]  # devices by tenths of a full battery
    fractions: tuple[tuple[str, int], ...]  # devices by fraction, narrowest first
    scatter: tuple[tuple[float, float, str, float], ...]  # mJ per answer, accuracy, name, fraction
    groups: tuple[GroupRow, ...] = ()
    problems: tuple[tuple[str, int], ...] = ()  # devices by problem, the most frequent first


class Rows:
    """A cache of the rows of all devices; recomputes only rows that may have changed."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._changed: set[str] = set()

    def change(self, name: str) -> None:
        """Mark the row of a device as outdated: a message from or for it has arrived."""
        self._changed.add(name)

    def of(
        self,
        devices: Mapping[str, DeviceState],
        tails: Mapping[str, Tail],
        waiting: Set[str],
        now_s: float,
    ) -> tuple[Row, ...]:
        """Return a row for each of ``devices``, by name; ``now_s`` is monotonic."""
        known, changed = self._rows, self._changed
        self._changed, self._rows = set(), {}
        for name in sorted(devices):
            row = known.get(name)
            if (
                row is None
                or name in changed
                or row.pending != (name in waiting)
                or now_s > row.silent_s
            ):
                row = row_of(devices[name], tails.get(name, NOTHING), name in waiting, now_s)
            self._rows[name] = row
        return tuple(self._rows.values())


def view(
    devices: Mapping[str, DeviceState],
    tails: Mapping[str, Tail],
    pending: Iterable[str],
    now_s: float = 0.0,
    known: Rows | None = None,
) -> View:
    """Return the contents of the first page at ``now_s`` (monotonic).

    ``pending`` are devices that have not reported their desired state. ``known`` is the cache of
    rows; without it all rows are computed.
    """
    waiting = set(pending)
    rows = (known or Rows()).of(devices, tails, waiting, now_s)
    here = [row for row in rows if row.online]
    sums = add_up(tails[row.name].recent.now for row in here if row.name in tails)
    batteries = [row.battery for row in here if row.battery is not None]
    summary = Summary(
        devices=len(rows),
        online=len(here),
        pending=len(waiting),
        rate=sum(row.rate for row in here),
        on_device=sums.on_device,
        accuracy=sums.accuracy,
        bytes_per_answer=sums.bytes_per_answer,
        energy_mj=sums.energy_mj,
        battery=mean(batteries),
        looks=sums.looks_per_answer,
        exits=exit_accuracy(sums),
        drift=drift((tail.recent.before, tail.recent.now) for tail in tails.values()),
    )
    wrong = Counter(problem for row in rows for problem in row.problems)
    return View(
        summary,
        rows,
        bins(batteries),
        counted(here),
        scattered(here),
        tuple(grouped(devices, rows, tails)),
        tuple(wrong.most_common()),
    )


def grouped(
    devices: Mapping[str, DeviceState], rows: Iterable[Row], tails: Mapping[str, Tail]
) -> list[GroupRow]:
    """Return a row for each group; a device in several groups counts in each."""
    members: dict[str, list[Row]] = {}
    for row in rows:
        birth = devices[row.name].birth
        for group in birth.groups if birth is not None else ():
            members.setdefault(group, []).append(row)
    found = []
    for name in sorted(members):
        of = members[name]
        here = [row for row in of if row.online]
        batteries = [row.battery for row in here if row.battery is not None]
        found.append(
            GroupRow(
                name,
                len(of),
                len(here),
                sum(bool(row.problems) for row in of),
                sum(row.rate for row in here),
                mean(batteries),
                add_up(tails[row.name].recent.now for row in here if row.name in tails),
            )
        )
    return found


def mean(values: Sequence[float]) -> float | None:
    """Return the mean of ``values``; None if there are none."""
    return sum(values) / len(values) if values else None


def row_of(device: DeviceState, tail: Tail, pending: bool, now_s: float) -> Row:
    """Return the table row of a device at ``now_s`` (monotonic)."""
    one, reported = device.telemetry, device.reported
    refused = reported.refused if reported is not None else ()
    sums = tail.recent.now
    silent_s = silent_after_s(device)
    return Row(
        name=device.name,
        groups=", ".join(device.birth.groups) if device.birth else "",
        online=device.online,
        pending=pending,
        battery=None if one is None else one.battery,
        plugged=one is not None and one.plugged,
        fraction=None if one is None else one.fraction,
        accuracy=sums.accuracy,
        energy_mj=sums.energy_mj,
        rate=sums.rate,
        latency_ms=None if one is None else one.latency_ms,
        seen_s=tail.seen_s,
        error="" if one is None else one.error,
        problems=tuple(problem.value for problem in problems(device, now_s)),
        model=(reported.settings.model or "") if reported is not None else "",
        version=reported.model_version if reported is not None else "",
        silent_s=silent_s if silent_s >= now_s else math.inf,
        refused=", ".join(f"{refusal.field}: {refusal.reason}" for refusal in refused),
    )


def bins(batteries: Sequence[float]) -> tuple[int, ...]:
    """Return the number of ``batteries``, 0 to 1, in each tenth."""
    counts = [0] * BATTERY_BINS
    for level in batteries:
        counts[min(max(int(level * BATTERY_BINS), 0), BATTERY_BINS - 1)] += 1
    return tuple(counts)


def counted(rows: Sequence[Row]) -> tuple[tuple[str, int], ...]:
    """Return the number of devices by fraction."""
    counts: dict[float, int] = {}
    for row in rows:
        if row.fraction is not None:
            counts[row.fraction] = counts.get(row.fraction, 0) + 1
    return tuple((f"{fraction:g}", counts[fraction]) for fraction in sorted(counts))


def scattered(rows: Sequence[Row]) -> tuple[tuple[float, float, str, float], ...]:
    """Return (mJ per answer, accuracy, name, fraction) of each device where both are known.

    Of a large fleet it is a regular sample of at most ``MOST_POINTS``.
    """
    return tuple(
        (round(row.energy_mj, 4), round(row.accuracy, 4), row.name, row.fraction or 0.0)
        for row in rows[:: len(rows) // MOST_POINTS + 1]
        if row.energy_mj is not None and row.accuracy is not None
    )


def chosen(rows: Sequence[Row], text: str, problem: str = "") -> tuple[list[Row], int]:
    """Return at most ``MOST_ROWS`` matching rows, and the number of all matching rows.

    A row matches if its name, group or error contains ``text`` and it has ``problem``, if given.
    Connected devices come first, those with the emptiest batteries before the others.
    """
    wanted = text.strip().lower()
    found = [
        row
        for row in rows
        if (not problem or problem in row.problems)
        and (
            not wanted or any(wanted in part.lower() for part in (row.name, row.groups, row.error))
        )
    ]
    found.sort(key=lambda row: (not row.online, 2.0 if row.battery is None else row.battery))
    return found[:MOST_ROWS], len(found)


def ago(seconds: float) -> str:
    """Format an age in its largest unit."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "now" if seconds < 5 else f"{seconds:.0f} s ago"
