"""Operating points: the ways to work on a sample, with the energy and the accuracy of each.

An operating point is a device level, an exit threshold and a coalescing wait. Policies choose among
those on the Pareto frontier of energy and accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from device.policy.simple import LARGEST_BATCH
from shared.energy.model import EnergyModel, Work, device_work, exit_work
from shared.model.bundle import Bundle
from shared.model.exits import NEVER, ExitPoint, read_calibration

# Share of the bits that a payload takes before any has been measured.
USUAL_COMPRESSION = 0.9


@dataclass(frozen=True)
class LevelTable:
    """Measurements of one device level.

    payload_bytes, batched_bytes  of one sample that travels alone, or among many
    accuracy                      with the cloud at full width, every sample sent
    curve                         the exit head over its threshold; empty without an exit head
    """

    fraction: float
    channels: int
    work: Work
    exit_work: Work
    payload_bytes: float
    batched_bytes: float
    accuracy: float
    curve: tuple[ExitPoint, ...]


@dataclass(frozen=True)
class Conditions:
    """What the cost of an operating point depends on, besides the hardware."""

    rate_per_s: float = 1.0
    round_trip_s: float | None = None
    max_wait_s: float = 0.0
    deadline_s: float | None = None


@dataclass(frozen=True)
class OperatingPoint:
    """One way to work.

    energy_j  mean of a sample
    stays     share of the samples that the exit head answers
    """

    level: int
    fraction: float
    channels: int
    exit_threshold: float
    wait_s: float
    batch: int
    stays: float
    accuracy: float
    energy_j: float
    latency_s: float


def level_tables(bundle: Bundle) -> tuple[LevelTable, ...]:
    """Tables of every device level, from the bundle's own measurements."""
    architecture = bundle.architecture
    calibration = read_calibration(bundle)
    tables = []
    for level, fraction in enumerate(architecture.device_levels):
        sent = architecture.sent_shape(level)
        guess = USUAL_COMPRESSION * sent.packed_bytes
        rows = bundle.metadata.accuracy
        tables.append(
            LevelTable(
                fraction=fraction,
                channels=sent.channels,
                work=device_work(architecture, level),
                exit_work=exit_work(architecture, level),
                payload_bytes=guess,
                batched_bytes=guess,
                accuracy=rows[level][-1] if rows else 0.0,
                curve=calibration.curve[level] if calibration else (),
            )
        )
    return tuple(tables)


def with_payloads(
    tables: Sequence[LevelTable], alone: Sequence[float], batched: Sequence[float]
) -> tuple[LevelTable, ...]:
    """The tables with payload sizes that were measured."""
    return tuple(
        replace(table, payload_bytes=one, batched_bytes=many)
        for table, one, many in zip(tables, alone, batched, strict=True)
    )


def at_threshold(curve: Sequence[ExitPoint], threshold: float) -> ExitPoint:
    """The point at ``threshold``, on straight lines between the measured ones."""
    below = [point for point in curve if point.threshold <= threshold]
    above = [point for point in curve if point.threshold >= threshold]
    if not below or not above:
        return (below or above)[-1 if below else 0]
    first, last = below[-1], above[0]
    span = last.threshold - first.threshold
    share = (threshold - first.threshold) / span if span else 0.0
    return ExitPoint(
        threshold,
        *(
            a + share * (b - a)
            for a, b in (
                (first.rate, last.rate),
                (first.accuracy, last.accuracy),
                (first.combined, last.combined),
            )
        ),
    )


def operating_point(
    table: LevelTable,
    level: int,
    point: ExitPoint | None,
    wait_s: float,
    model: EnergyModel,
    conditions: Conditions,
) -> OperatingPoint:
    """Cost and accuracy of working at ``level`` with the exit at ``point`` (None: no exit)."""
    stays = point.rate if point else 0.0
    leaves = 1 - stays
    batch = min(1 + int(conditions.rate_per_s * leaves * wait_s), LARGEST_BATCH)
    each_bytes = table.payload_bytes if batch == 1 else table.batched_bytes
    exchange_j = model.exchange_j(batch * each_bytes, batch, conditions.round_trip_s) / batch
    work = table.work + table.exit_work if point else table.work
    round_trip_s = conditions.round_trip_s
    if round_trip_s is None:
        round_trip_s = model.hardware.round_trip_s
    away_s = round_trip_s + wait_s if leaves else 0.0
    return OperatingPoint(
        level=level,
        fraction=table.fraction,
        channels=table.channels,
        exit_threshold=point.threshold if point else NEVER,
        wait_s=wait_s,
        batch=batch,
        stays=stays,
        accuracy=point.combined if point else table.accuracy,
        energy_j=model.picture_j(conditions.rate_per_s)
        + model.compute_j(work)
        + leaves * exchange_j,
        latency_s=model.compute_s(work) + away_s,
    )


def operating_points(
    tables: Sequence[LevelTable],
    model: EnergyModel,
    conditions: Conditions,
    pinned_threshold: float | None = None,
) -> list[OperatingPoint]:
    """Every operating point; with ``pinned_threshold`` only those with that exit threshold.

    Of those that miss the deadline of ``conditions``, the fastest remains if all do.
    """
    waits = {0.0, conditions.max_wait_s}
    points = []
    for level, table in enumerate(tables):
        exits: list[ExitPoint | None] = [None, *table.curve]
        if pinned_threshold is not None:
            usable = bool(table.curve) and pinned_threshold <= 1
            exits = [at_threshold(table.curve, pinned_threshold)] if usable else [None]
        points += [
            operating_point(table, level, exit_point, wait_s, model, conditions)
            for exit_point in exits
            for wait_s in sorted(waits)
        ]
    if conditions.deadline_s is None:
        return points
    deadline_s = conditions.deadline_s
    in_time = [point for point in points if point.latency_s <= deadline_s]
    # Nothing is fast enough: take what comes closest.
    return in_time or [min(points, key=lambda point: point.latency_s)]


def frontier(points: Iterable[OperatingPoint]) -> tuple[OperatingPoint, ...]:
    """The Pareto frontier: points that no other beats in energy and accuracy, both ascending."""
    kept: list[OperatingPoint] = []
    order = sorted(points, key=lambda o: (o.energy_j, -o.accuracy, o.latency_s))
    for point in order:
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return tuple(kept)
