"""Operating points: the ways to process a sample, with the energy and accuracy of each.

An operating point is a plan of looks and a coalescing wait. Policies choose among those on the
Pareto frontier of energy and accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from device.policy.simple import LARGEST_BATCH, Look
from shared.energy.model import EnergyModel, Work, device_work, exit_work
from shared.model.bundle import Bundle
from shared.model.exits import NEVER, ExitPoint, read_calibration
from shared.model.looks import NO_LOOK, LookPlan, read_payloads

# Assumed size of a coded payload relative to its bits, until one has been measured.
USUAL_COMPRESSION = 0.9


@dataclass(frozen=True)
class LevelTable:
    """Measurements of one device level.

    payload_bytes, batched_bytes  bytes of one sample that is sent alone, or among many
    accuracy                      accuracy if every sample is sent and the cloud runs at full width
    curve                         results of the exit head by threshold; empty without exit head
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
    """Conditions besides the hardware that determine the cost of an operating point.

    rate_per_s    samples in a second
    round_trip_s  measured time of an exchange; None: the hardware's usual time
    max_wait_s    longest time for which samples may wait for each other
    deadline_s    longest latency of a sample; None: any
    """

    rate_per_s: float = 1.0
    round_trip_s: float | None = None
    max_wait_s: float = 0.0
    deadline_s: float | None = None


@dataclass(frozen=True)
class OperatingPoint:
    """A way to process samples, and its costs.

    looks               the plan of looks
    fraction, channels  those of the first look
    then                fraction of the second look; None without one
    wait_s, batch       how long samples wait for each other, and the expected number in a request
    stays               share of the samples that the exit head answers
    escalated           share that gets a second look by the device's choice
    asked               share that gets a second look at the cloud's request
    payload_bytes       mean number of bytes sent per sample
    energy_j            mean energy per sample
    latency_s           latency of a sample with all looks
    """

    looks: tuple[Look, ...]
    fraction: float
    channels: int
    then: float | None
    wait_s: float
    batch: int
    stays: float
    escalated: float
    asked: float
    accuracy: float
    payload_bytes: float
    energy_j: float
    latency_s: float

    @property
    def level(self) -> int:
        """Device level of the first look."""
        return self.looks[0].level

    @property
    def exit_threshold(self) -> float:
        """Exit threshold of the first look; ``NEVER`` without exits."""
        threshold = self.looks[0].exit_threshold
        return NEVER if threshold is None else threshold


def level_tables(bundle: Bundle) -> tuple[LevelTable, ...]:
    """Return the tables of all device levels from the measurements in the bundle."""
    architecture = bundle.architecture
    calibration, payloads = read_calibration(bundle), read_payloads(bundle)
    tables = []
    for level, fraction in enumerate(architecture.device_levels):
        sent = architecture.sent_shape(level)
        guess = payloads[level] if payloads else USUAL_COMPRESSION * sent.packed_bytes
        rows = bundle.metadata.planned_accuracy
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
    """Return the tables with measured payload sizes, alone and in batches, by level."""
    return tuple(
        replace(table, payload_bytes=one, batched_bytes=many)
        for table, one, many in zip(tables, alone, batched, strict=True)
    )


def at_threshold(curve: Sequence[ExitPoint], threshold: float) -> ExitPoint:
    """Return the point at ``threshold`` by linear interpolation of the measured curve."""
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


def one_look_plans(
    tables: Sequence[LevelTable], pinned_threshold: float | None = None
) -> list[LookPlan]:
    """Return the plans of one look: each level with each exit threshold, or only the pinned one."""
    plans = []
    for level, table in enumerate(tables):
        exits: list[ExitPoint | None] = [None, *table.curve]
        if pinned_threshold is not None:
            usable = bool(table.curve) and pinned_threshold <= 1
            exits = [at_threshold(table.curve, pinned_threshold)] if usable else [None]
        for point in exits:
            stays = point.rate if point else 0.0
            plans.append(
                LookPlan(
                    first=level,
                    second=NO_LOOK,
                    exit_threshold=point.threshold if point else NEVER,
                    escalate_below=0.0,
                    ask_below=0,
                    stays=stays,
                    escalated=0.0,
                    asked=0.0,
                    accuracy=point.combined if point else table.accuracy,
                    payload_bytes=(1 - stays) * table.payload_bytes,
                    device_macs=table.work.binary_macs + table.work.pixel_macs,
                )
            )
    return plans


def operating_point(
    plan: LookPlan,
    tables: Sequence[LevelTable],
    wait_s: float,
    model: EnergyModel,
    conditions: Conditions,
) -> OperatingPoint:
    """Compute the costs and accuracy of ``plan`` under ``conditions``."""
    first = tables[plan.first]
    leaves, again = 1 - plan.stays - plan.escalated, plan.escalated + plan.asked
    round_trip_s = conditions.round_trip_s
    if round_trip_s is None:
        round_trip_s = model.hardware.round_trip_s
    work = first.work + first.exit_work if plan.has_exit else first.work
    batch, exchange_j, sent_bytes = _exchange(first, leaves, wait_s, model, conditions)
    energy_j = model.picture_j(conditions.rate_per_s) + model.compute_j(work) + leaves * exchange_j
    payload_bytes = leaves * sent_bytes
    latency_s = model.compute_s(work) + (round_trip_s + wait_s if leaves > 0 else 0.0)
    looks = [Look(plan.first, plan.exit_threshold, plan.escalate_below, plan.ask_below)]
    then = None
    if plan.second != NO_LOOK:
        second = tables[plan.second]
        _, exchange_j, sent_bytes = _exchange(second, again, wait_s, model, conditions)
        energy_j += again * (model.compute_j(second.work) + exchange_j)
        payload_bytes += again * sent_bytes
        latency_s += model.compute_s(second.work) + round_trip_s
        looks.append(Look(plan.second, NEVER))
        then = second.fraction
    return OperatingPoint(
        looks=tuple(looks),
        fraction=first.fraction,
        channels=first.channels,
        then=then,
        wait_s=wait_s,
        batch=batch,
        stays=plan.stays,
        escalated=plan.escalated,
        asked=plan.asked,
        accuracy=plan.accuracy,
        payload_bytes=payload_bytes,
        energy_j=energy_j,
        latency_s=latency_s,
    )


def _exchange(
    table: LevelTable, share: float, wait_s: float, model: EnergyModel, conditions: Conditions
) -> tuple[int, float, float]:
    """Return samples in a request, joules and bytes per sample, if ``share`` of them is sent."""
    batch = min(1 + int(conditions.rate_per_s * share * wait_s), LARGEST_BATCH)
    each_bytes = table.payload_bytes if batch == 1 else table.batched_bytes
    exchange_j = model.exchange_j(batch * each_bytes, batch, conditions.round_trip_s) / batch
    return batch, exchange_j, each_bytes


def operating_points(
    tables: Sequence[LevelTable],
    model: EnergyModel,
    conditions: Conditions,
    pinned_threshold: float | None = None,
    plans: Sequence[LookPlan] = (),
) -> list[OperatingPoint]:
    """Return every operating point, including those of ``plans`` of two looks.

    With ``pinned_threshold`` only points with that exit threshold. Points that miss the deadline of
    ``conditions`` are left out; if all miss it, the fastest remains.
    """
    usable = [
        plan
        for plan in plans
        if pinned_threshold is None or (pinned_threshold > 1 and not plan.has_exit)
    ]
    points = [
        operating_point(plan, tables, wait_s, model, conditions)
        for plan in (*one_look_plans(tables, pinned_threshold), *usable)
        for wait_s in sorted({0.0, conditions.max_wait_s})
    ]
    if conditions.deadline_s is None:
        return points
    deadline_s = conditions.deadline_s
    in_time = [point for point in points if point.latency_s <= deadline_s]
    # If no point is fast enough, use the fastest.
    return in_time or [min(points, key=lambda point: point.latency_s)]


def frontier(points: Iterable[OperatingPoint]) -> tuple[OperatingPoint, ...]:
    """Return the Pareto frontier: points not beaten in energy and accuracy, both ascending."""
    kept: list[OperatingPoint] = []
    order = sorted(points, key=lambda o: (o.energy_j, -o.accuracy, o.latency_s))
    for point in order:
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return tuple(kept)
