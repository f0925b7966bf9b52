"""What the dashboard shows, computed from what is known of the fleet. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cloud.fleet.state import DeviceState
from shared.fleet.messages import Telemetry

REMEMBERED = 400  # messages of a device that are kept for its timeline
RECENT = 20  # messages that rates, accuracy and energy are taken over
MOST_ROWS = 500  # of the table: a browser gets slow with more
BATTERY_BINS = 10


@dataclass
class Tail:
    """The last telemetry of a device, and when the last of it came."""

    messages: deque[Telemetry] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    seen_s: float = 0.0

    def recent(self) -> Recent:
        """Sums over the last messages."""
        return recent(list(self.messages)[-RECENT:])


@dataclass(frozen=True)
class Recent:
    """Sums over some telemetry; energy in joules, period in seconds."""

    answered_device: int = 0
    answered_cloud: int = 0
    failed: int = 0
    labelled: int = 0
    right: int = 0
    payload_bytes: int = 0
    energy_j: float = 0.0
    period_s: float = 0.0

    @property
    def answered(self) -> int:
        """Samples that were answered, on the device or by the cloud."""
        return self.answered_device + self.answered_cloud

    @property
    def accuracy(self) -> float | None:
        """Share of right answers; None without labels."""
        return self.right / self.labelled if self.labelled else None

    @property
    def energy_mj(self) -> float | None:
        """Millijoules an answer; None without answers."""
        return 1000 * self.energy_j / self.answered if self.answered else None

    @property
    def bytes_per_answer(self) -> float | None:
        """Payload bytes an answer; None without answers."""
        return self.payload_bytes / self.answered if self.answered else None

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.period_s if self.period_s else 0.0


def recent(messages: Iterable[Telemetry]) -> Recent:
    """Sums over ``messages``."""
    listed = list(messages)
    return Recent(
        sum(one.answered_device for one in listed),
        sum(one.answered_cloud for one in listed),
        sum(one.failed for one in listed),
        sum(one.labelled for one in listed),
        sum(one.right for one in listed),
        sum(one.payload_bytes for one in listed),
        sum(one.energy_j for one in listed),
        sum(one.period_s for one in listed),
    )


@dataclass(frozen=True)
class Row:
    """One device in the table."""

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


@dataclass(frozen=True)
class Summary:
    """The whole fleet in a few numbers; None where nothing is known."""

    devices: int
    online: int
    pending: int
    rate: float
    on_device: float | None
    accuracy: float | None
    bytes_per_answer: float | None
    energy_mj: float | None
    battery: float | None


@dataclass(frozen=True)
class View:
    """Everything on the first page but the cloud."""

    summary: Summary
    rows: tuple[Row, ...]
    battery_bins: tuple[int, ...]  # devices by tenths of a full battery
    fractions: tuple[tuple[str, int], ...]  # devices by fraction, narrowest first
    scatter: tuple[tuple[float, float, str, float], ...]  # mJ an answer, accuracy, name, fraction


def view(
    devices: Mapping[str, DeviceState], tails: Mapping[str, Tail], pending: Iterable[str]
) -> View:
    """The fleet as it is."""
    waiting = set(pending)
    rows = tuple(
        row_of(device, tails.get(name, Tail()), name in waiting)
        for name, device in sorted(devices.items())
    )
    here = [row for row in rows if row.online]
    sums = recent(one for row in here if row.name in tails for one in last(tails[row.name]))
    batteries = [row.battery for row in here if row.battery is not None]
    summary = Summary(
        devices=len(rows),
        online=len(here),
        pending=len(waiting),
        rate=sum(row.rate for row in here),
        on_device=sums.answered_device / sums.answered if sums.answered else None,
        accuracy=sums.accuracy,
        bytes_per_answer=sums.bytes_per_answer,
        energy_mj=sums.energy_mj,
        battery=sum(batteries) / len(batteries) if batteries else None,
    )
    return View(summary, rows, bins(batteries), counted(here), scattered(here))


def last(tail: Tail) -> list[Telemetry]:
    """The messages that sums are taken over."""
    return list(tail.messages)[-RECENT:]


def row_of(device: DeviceState, tail: Tail, pending: bool) -> Row:
    """One device in the table."""
    one = device.telemetry
    sums = tail.recent()
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
    )


def bins(batteries: Sequence[float]) -> tuple[int, ...]:
    """How many of ``batteries``, 0 to 1, lie in each tenth."""
    counts = [0] * BATTERY_BINS
    for level in batteries:
        counts[min(max(int(level * BATTERY_BINS), 0), BATTERY_BINS - 1)] += 1
    return tuple(counts)


def counted(rows: Sequence[Row]) -> tuple[tuple[str, int], ...]:
    """Devices by fraction."""
    counts: dict[float, int] = {}
    for row in rows:
        if row.fraction is not None:
            counts[row.fraction] = counts.get(row.fraction, 0) + 1
    return tuple((f"{fraction:g}", counts[fraction]) for fraction in sorted(counts))


def scattered(rows: Sequence[Row]) -> tuple[tuple[float, float, str, float], ...]:
    """A point for each device of which energy and accuracy are known."""
    return tuple(
        (round(row.energy_mj, 4), round(row.accuracy, 4), row.name, row.fraction or 0.0)
        for row in rows
        if row.energy_mj is not None and row.accuracy is not None
    )


def chosen(rows: Sequence[Row], text: str) -> tuple[list[Row], int]:
    """At most ``MOST_ROWS`` of the rows whose name, group or error has ``text``, and how many do.

    Devices that are here come first, those with the emptiest batteries before the others.
    """
    wanted = text.strip().lower()
    found = [
        row
        for row in rows
        if not wanted or any(wanted in part.lower() for part in (row.name, row.groups, row.error))
    ]
    found.sort(key=lambda row: (not row.online, 2.0 if row.battery is None else row.battery))
    return found[:MOST_ROWS], len(found)


def ago(seconds: float) -> str:
    """How long ago, for people."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return "now" if seconds < 5 else f"{seconds:.0f} s ago"
