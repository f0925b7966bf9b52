"""The planning policy: as accurate as a lifetime allows, or as frugal as an accuracy allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from device.energy.recharge import DAY_S
from device.policy.operating_points import (
    Conditions,
    LevelTable,
    OperatingPoint,
    frontier,
    operating_points,
)
from device.policy.simple import Decision, Look, Situation
from shared.energy.model import EnergyModel
from shared.errors import UsageError
from shared.model.exits import ALWAYS
from shared.model.looks import LookPlan

# Hysteresis: a more expensive choice needs a budget that exceeds its power by this share.
MARGIN = 0.03
DWELLS = 1000  # a choice is kept for 1 / DWELLS of the lifetime, unless the battery is too low


@dataclass(frozen=True)
class Goal:
    """The goals: to last for ``lifetime_s``, to have at least ``min_accuracy``, or both.

    ``max_bytes`` limits the mean number of bytes sent per sample.
    """

    lifetime_s: float | None = None
    min_accuracy: float | None = None
    max_bytes: float | None = None

    def __post_init__(self) -> None:
        if self.lifetime_s is not None and not 0 < self.lifetime_s < math.inf:
            raise UsageError(f"--lifetime: {self.lifetime_s:g} s is not allowed; give more than 0")
        if self.min_accuracy is not None and not 0 < self.min_accuracy <= 1:
            raise UsageError(
                f"--min-accuracy: {self.min_accuracy:g} is not allowed; "
                "give a share above 0, up to 1, e.g. 0.985"
            )
        if self.max_bytes is not None and not 0 < self.max_bytes < math.inf:
            raise UsageError(f"--max-bytes: {self.max_bytes:g} is not allowed; give more than 0")


def sustainable_w(
    stored_j: float, forecast: Sequence[tuple[float, float]], remaining_s: float
) -> float:
    """Return the watts that can be drawn for ``remaining_s`` without emptying the battery.

    ``forecast`` holds (seconds ahead, joules harvested by then), ascending. The result is the
    minimum over its moments t of (stored + harvested by t) / t, because energy cannot be used
    before it is harvested.
    """
    harvested_j = [(t, j) for t, j in forecast if 0 < t <= remaining_s]
    last_j = harvested_j[-1][1] if harvested_j else 0.0
    return min((stored_j + j) / t for t, j in [*harvested_j, (remaining_s, last_j)])


class AutoPolicy:
    """Chooses a plan of looks and coalescing from measured accuracy and modelled energy.

    ``plans`` are the plans of two looks; those of one look are derived from ``tables``. The budget
    is computed at every decision from the present charge, which corrects errors of the energy
    model. If the clock goes back, no time counts as passed.
    """

    def __init__(
        self,
        tables: Sequence[LevelTable],
        model: EnergyModel,
        goal: Goal,
        conditions: Conditions | None = None,
        pinned_threshold: float | None = None,
        plans: Sequence[LookPlan] = (),
    ) -> None:
        self._tables = tuple(tables)
        self._plans = tuple(plans)
        self._model = model
        self._goal = goal
        self._conditions = Conditions() if conditions is None else conditions
        self._pinned = pinned_threshold
        self._key: tuple[float, ...] = ()
        self._points: tuple[OperatingPoint, ...] = ()
        self._local: tuple[OperatingPoint, ...] = ()
        self._start_s: float | None = None
        self._clock_s = 0.0
        self._changed_s = -math.inf
        self._last: OperatingPoint | None = None

    def decide(self, situation: Situation) -> Decision:
        """Return the choice for ``situation``; its ``reason`` explains it in one line."""
        self._refresh(situation)
        points = self._local if situation.cloud_away and self._local else self._points
        if self._start_s is None:
            self._start_s = self._clock_s = situation.now_s
        self._clock_s = max(self._clock_s, situation.now_s)
        budget_w = self._budget_w(situation)
        chosen = self._choose(points, budget_w, situation)
        if self._last is None or _choice(chosen) != _choice(self._last):
            self._changed_s = self._clock_s
        self._last = chosen
        return Decision(
            looks=chosen.looks,
            wait_s=chosen.wait_s,
            batch=chosen.batch,
            asked=_second_look_share(chosen),
            reason=self._explain(chosen, budget_w, situation),
        )

    def _refresh(self, situation: Situation) -> None:
        """Recompute the operating points if rate or round trip have changed by more than
        a fifth.
        """
        key = (_rough(situation.rate_per_s), _rough(situation.round_trip_s or 0.0))
        if key == self._key:
            return
        self._key = key
        conditions = Conditions(
            rate_per_s=situation.rate_per_s,
            round_trip_s=situation.round_trip_s,
            max_wait_s=self._conditions.max_wait_s,
            deadline_s=self._conditions.deadline_s,
        )
        everything = operating_points(
            self._tables, self._model, conditions, self._pinned, self._plans
        )
        self._points = frontier(self._small(everything))
        self._local = frontier(
            point
            for point in operating_points(self._tables, self._model, conditions)
            if point.exit_threshold == ALWAYS
        )

    def _small(self, points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
        """Return the points within ``max_bytes``; if there are none, the smallest point."""
        most = self._goal.max_bytes
        if most is None:
            return list(points)
        small = [point for point in points if point.payload_bytes <= most]
        return small or [min(points, key=lambda point: point.payload_bytes)]

    def _remaining_s(self) -> float:
        lifetime_s = self._goal.lifetime_s or math.inf
        return lifetime_s - (self._clock_s - (self._start_s or 0.0))

    def _budget_w(self, situation: Situation) -> float:
        """Return the watts that samples may use; infinite without a limit."""
        remaining_s = self._remaining_s()
        if self._goal.lifetime_s is None or situation.stored_j is None or remaining_s <= 0:
            return math.inf
        if situation.charge.plugged and not situation.forecast:
            return math.inf  # while plugged in, energy need not be saved
        power_w = sustainable_w(situation.stored_j, situation.forecast, remaining_s)
        return max(power_w - self._model.hardware.idle_w, 0.0)

    def _choose(
        self, points: Sequence[OperatingPoint], budget_w: float, situation: Situation
    ) -> OperatingPoint:
        rate = situation.rate_per_s
        floor = self._floor(points)
        if self._goal.lifetime_s is None:
            # Plugged in, there is nothing to save.
            plugged = situation.charge.plugged or self._goal.min_accuracy is None
            return points[-1] if plugged else points[floor]
        affordable = [i for i, point in enumerate(points) if point.energy_j * rate <= budget_w]
        best = max(affordable[-1] if affordable else 0, floor)
        last = self._match(points)
        if last is None or best == last:
            return points[best]
        if best < last:
            carries = points[last].energy_j * rate <= budget_w * (1 + MARGIN)
            return points[last if carries else best]
        # Change to a more expensive point only if the budget clearly allows it, and not too often.
        clearly = [i for i in affordable if points[i].energy_j * rate <= budget_w * (1 - MARGIN)]
        better = max(clearly[-1] if clearly else 0, floor)
        rested = self._clock_s - self._changed_s >= self._goal.lifetime_s / DWELLS
        return points[better if rested and better > last else last]

    def _floor(self, points: Sequence[OperatingPoint]) -> int:
        """Return the index of the cheapest accurate enough point; of the most accurate if
        none is.
        """
        wanted = self._goal.min_accuracy or 0.0
        enough = (i for i, point in enumerate(points) if point.accuracy >= wanted)
        return next(enough, len(points) - 1)

    def _match(self, points: Sequence[OperatingPoint]) -> int | None:
        """Return the index of the last choice in ``points``, which may have been recomputed."""
        if self._last is None:
            return None
        choice = _choice(self._last)
        return next((i for i, point in enumerate(points) if _choice(point) == choice), None)

    def _explain(self, point: OperatingPoint, budget_w: float, situation: Situation) -> str:
        parts = [f"auto: fraction {point.fraction:g} ({point.channels} channels)"]
        if point.exit_threshold <= 1:
            parts.append(f"exit at {point.exit_threshold:g} keeps {point.stays:.0%} on the device")
        if point.then is not None:
            again = point.escalated + point.asked
            parts.append(f"a second look at {point.then:g} for {again:.0%}")
        if point.wait_s:
            parts.append(f"coalesce up to {point.batch} within {1000 * point.wait_s:g} ms")
        text = ", ".join(parts)
        text += f" -> {1000 * point.energy_j:.3g} mJ, {point.payload_bytes:.3g} bytes"
        text += f" and {point.accuracy:.2%} a sample"
        charge = situation.charge
        text += f"; battery {charge.level:.0%}{', plugged in' if charge.plugged else ''}"
        if math.isfinite(budget_w):
            left_d = max(self._remaining_s(), 0.0) / DAY_S
            need_w = point.energy_j * situation.rate_per_s
            text += f", {left_d:.3g} days to go, {1000 * need_w:.3g} of {1000 * budget_w:.3g} mW"
            if need_w > budget_w * (1 + MARGIN):
                text += " (over budget: nothing allowed is cheaper)"
        wanted = self._goal.min_accuracy
        if wanted is not None and point.accuracy < wanted:
            text += f"; {wanted:.2%} cannot be reached"
        most = self._goal.max_bytes
        if most is not None and point.payload_bytes > most:
            text += f"; {most:g} bytes cannot be reached"
        if situation.cloud_away:
            text += "; the cloud is away"
        return text


def _choice(point: OperatingPoint) -> tuple[tuple[Look, ...], float]:
    """Return what identifies a point: its looks and wait, without its costs."""
    return point.looks, point.wait_s


def _second_look_share(point: OperatingPoint) -> float | None:
    """Return the share of sent samples for which a second look is expected."""
    sent = 1 - point.stays - point.escalated
    return None if point.then is None else point.asked / max(sent, 1e-9)


def _rough(value: float) -> float:
    """Round ``value`` to steps of a fifth, so that small changes have no effect."""
    return round(math.log(value, 1.2)) if value > 0 else -math.inf
