"""The load of the server, and the level that follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cloud.models.catalog import Catalog
from cloud.models.served import ServedModel
from cloud.scheduling.level_controller import Demand, LevelController, SojournTimes
from shared.fractions import level_for
from shared.protocol.messages import Hints

OBSERVE_S = 0.005  # work is added up for this long before it counts as demand
LOADED = 0.75  # load from which answers carry hints
CROWDED = 0.9  # load from which hints ask for a lower device level, at the narrowest cloud level
# Narrowing makes answers earlier only where computing is at least this share of the capacity.
LEAST_COMPUTE = 0.25


class Key(NamedTuple):
    """What may run in one batch; ``pinned`` is the cloud level that the caller asked for."""

    model: ServedModel
    level: int
    pinned: int | None


@dataclass
class _Work:
    """Work of one key that is not yet counted as demand."""

    batches: int = 0
    samples: int = 0
    decode_s: float = 0.0


@dataclass(eq=False)
class _Ladder:
    """The cloud's fractions, narrowest first, and each model's level at each of them."""

    fractions: tuple[float, ...]
    levels: dict[ServedModel, tuple[int, ...]] = field(default_factory=dict)

    def of(self, model: ServedModel) -> tuple[int, ...]:
        levels = self.levels.get(model)
        if levels is None:
            levels = tuple(level_for(f, model.cloud_levels) for f in self.fractions)
            self.levels[model] = levels
        return levels


class LoadMonitor:
    """Adds up work that was verified or refused for lack of room, and chooses the cloud's level."""

    def __init__(self, objective_s: float, fraction: float | None) -> None:
        self._objective_s = objective_s
        self._fixed = fraction is not None
        self._ladder = _Ladder((1.0,) if fraction is None else (fraction,))
        self._controller = LevelController(1, objective_s)
        self._demand = Demand(1)
        self._sojourn = SojournTimes()
        self._offered: dict[Key, _Work] = {}
        self._observed_s = 0.0
        self._busy = 0.0
        self._lag_s = 0.0
        self.hints: Hints | None = None

    def serve(self, catalog: Catalog) -> None:
        """Choose among the fractions of the models in ``catalog`` from now on."""
        found = {level for model in catalog.models for level in model.cloud_levels}
        before = self._ladder.fractions
        fractions = before if self._fixed or not found else tuple(sorted(found))
        self._ladder = _Ladder(fractions)  # forgets models that are gone
        self._offered.clear()
        if fractions != before:
            self._controller = LevelController(len(fractions), self._objective_s)
            self._demand = Demand(len(fractions))

    @property
    def fraction(self) -> float:
        """The cloud's fraction for requests that do not pin a level."""
        return self._ladder.fractions[self._controller.level]

    @property
    def rung(self) -> int:
        """The index of ``fraction`` among the fractions, 0 the narrowest."""
        return self._controller.level

    def load(self, now_s: float) -> float:
        """Share of the capacity in use; above 1 if more is asked for than can be done."""
        return max(self._demand.shares(now_s)[self._controller.level], self._busy)

    def cloud_level(self, key: Key) -> int:
        """The cloud level at which ``key`` would run now."""
        return self.level_of(key.model) if key.pinned is None else key.pinned

    def level_of(self, model: ServedModel) -> int:
        """The cloud level of requests to ``model`` that pin none."""
        return self._ladder.of(model)[self._controller.level]

    def offer(self, key: Key, samples: int, decode_s: float, batches: int = 1) -> None:
        """Count ``samples`` in some batches as asked for."""
        work = self._offered.get(key)
        if work is None:
            work = self._offered[key] = _Work()
        work.batches += batches
        work.samples += samples
        work.decode_s += decode_s

    def answered(self, now_s: float, sojourns_s: Sequence[float]) -> None:
        """Count the sojourn times of requests: queue, compute and the event loop's backlog."""
        limit_s = self._controller.limit_s - self._lag_s
        late = sum(sojourn_s > limit_s for sojourn_s in sojourns_s)
        self._sojourn.add(now_s, late, len(sojourns_s))

    def delays_s(
        self, rest_s: float, once_s: float, waiting: Iterable[tuple[Key, int]]
    ) -> list[float]:
        """Seconds until all that waits is done, at each fraction.

        ``rest_s`` is left of the running batch, ``once_s`` is spent besides the samples.
        """
        delays = [rest_s + once_s] * len(self._ladder.fractions)
        for key, samples in waiting:
            self._add_run(delays, key, 1, samples)
        return delays

    def observe(self, now_s: float, delays_s: list[float], at_once: bool = False) -> None:
        """Update demand and level, given the predicted delays."""
        if at_once or now_s - self._observed_s >= OBSERVE_S:
            self._observed_s = now_s
            work_s = [0.0] * len(self._ladder.fractions)
            for key, work in self._offered.items():
                self._add_run(work_s, key, work.batches, work.samples)
                work_s = [total + work.decode_s for total in work_s]
            self._offered.clear()
            self._demand.add(now_s, work_s)
        demand = self._demand.shares(now_s)
        level = self._controller.level
        late = demand[level] >= LEAST_COMPUTE and self._sojourn.late(now_s)
        if self._controller.update(now_s, delays_s, demand, late) != level:
            self._sojourn.clear()

    def tick(self, now_s: float, busy: float, lag_s: float) -> None:
        """Take in the event loop's share of time at work, and by how much it wakes too late."""
        self._busy, self._lag_s = busy, lag_s
        load = self.load(now_s)
        self.hints = Hints(round(load, 2)) if load >= LOADED else None

    @property
    def crowded(self) -> bool:
        """Whether devices are asked for less, as the cloud cannot narrow any further."""
        hints = self.hints
        return hints is not None and hints.load >= CROWDED and self._controller.level == 0

    def hints_for(self, level: int) -> Hints | None:
        """The load, and a device level below ``level`` if the cloud cannot narrow any further."""
        if self.hints is None or not self.crowded:
            return self.hints
        return Hints(self.hints.load, max(level - 1, 0))

    def _add_run(self, sums: list[float], key: Key, batches: int, samples: int) -> None:
        """Add the seconds of ``samples`` in ``batches`` at each fraction to ``sums``."""
        costs = key.model.costs
        ladder = self._ladder.of(key.model)
        for place in range(len(sums)):
            level = ladder[place] if key.pinned is None else key.pinned
            once_s = costs.run_s(key.level, level, 0)
            sums[place] += batches * once_s + samples * costs.sample_s(key.level, level)
