"""The level controller: how wide the cloud computes, so that answers hold the latency objective.

It narrows when the predicted delay, or the measured sojourn time of too many requests, passes
``LIMIT`` of the objective. It widens one step when the wider level is predicted to stay below the
same limit for ``HOLD_S``. Where the demand exceeds what the wider level can do, but the prediction
holds, it tries after ``PROBE_S``: clients that wait for their answers ask for less at a wider
level. A step up that has to be taken back is not repeated until a waiting time is over, which
doubles each time, or until the demand is lower. So a steady load settles, and one spike does not
leave the cloud narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LIMIT = 0.7  # share of the objective
HOLD_S = 0.6
PROBE_S = 5.0
SETTLE_S = 0.3  # after a change, measured times still belong to the level before
PROBATION_S = 30.0  # a step up that is taken back within this time has failed
LONGEST_WAIT_S = 60.0
LESS_DEMAND = 0.8  # share of the demand at a failed step up that counts as lower


@dataclass
class _Failure:
    """A step up that was taken back: the demand then, and when to try again."""

    demand: float
    until_s: float
    wait_s: float


class LevelController:
    """Chooses a level from 0, the narrowest, to ``count - 1``. Times are seconds of any clock."""

    def __init__(self, count: int, objective_s: float) -> None:
        self._count = count
        self._limit_s = LIMIT * objective_s
        self._level = count - 1
        self._fit_since_s: float | None = None
        self._changed_s = -SETTLE_S
        self._raised_s: dict[int, float] = {}  # when each level in use was last widened to
        self._failures: dict[int, _Failure] = {}

    @property
    def level(self) -> int:
        """The level that is in use."""
        return self._level

    @property
    def limit_s(self) -> float:
        """The delay above which the controller narrows."""
        return self._limit_s

    def update(
        self,
        now_s: float,
        delays_s: Sequence[float],
        demand: Sequence[float],
        measured_late: bool = False,
    ) -> int:
        """The level from now on.

        delays_s[i]    predicted delay of the newest request if all that waits ran at level i
        demand[i]      work that is asked for, as a share of the capacity at level i
        measured_late  too many requests have taken longer than ``limit_s`` lately
        """
        if delays_s[self._level] > self._limit_s:
            fitting = [i for i in range(self._level) if delays_s[i] <= self._limit_s]
            self._narrow(now_s, max(fitting, default=0), demand)
        elif measured_late:
            self._fit_since_s = None
            if now_s - self._changed_s >= SETTLE_S:
                self._narrow(now_s, max(self._level - 1, 0), demand)
        else:
            self._widen(now_s, delays_s, demand)
        return self._level

    def _narrow(self, now_s: float, target: int, demand: Sequence[float]) -> None:
        self._fit_since_s = None
        if target == self._level:
            return
        for level in range(target + 1, self._level + 1):
            # A level that was left for a wider one, and is given up after that, has failed too.
            raised_s = self._raised_s.pop(level, None)
            if raised_s is not None and now_s - raised_s < PROBATION_S:
                before = self._failures.get(level)
                wait_s = PROBE_S if before is None else min(2 * before.wait_s, LONGEST_WAIT_S)
                self._failures[level] = _Failure(demand[0], now_s + wait_s, wait_s)
        self._level = target
        self._changed_s = now_s

    def _widen(self, now_s: float, delays_s: Sequence[float], demand: Sequence[float]) -> None:
        proven = [level for level, s in self._raised_s.items() if now_s - s >= PROBATION_S]
        for level in proven:
            del self._raised_s[level]
            self._failures.pop(level, None)
        wider = self._level + 1
        # A level that falls behind already is no place to widen from.
        behind = demand[self._level] > 1.0
        if wider >= self._count or behind or delays_s[wider] > self._limit_s:
            self._fit_since_s = None
            return
        if self._fit_since_s is None:
            self._fit_since_s = now_s
        hold_s = HOLD_S if demand[wider] <= 1.0 else PROBE_S
        if now_s - self._fit_since_s < hold_s or self._failed_lately(now_s, wider, demand):
            return
        self._level = wider
        self._raised_s[wider] = now_s
        self._changed_s = now_s
        self._fit_since_s = now_s

    def _failed_lately(self, now_s: float, wider: int, demand: Sequence[float]) -> bool:
        failure = self._failures.get(wider)
        if failure is None:
            return False
        return now_s < failure.until_s and demand[0] >= LESS_DEMAND * failure.demand


class Demand:
    """Work that was asked for lately, by level, over a window of about a second."""

    def __init__(self, count: int, window_s: float = 0.5) -> None:
        self._window_s = window_s
        self._count = count
        self._start_s: float | None = None
        self._now = [0.0] * count
        self._before = [0.0] * count

    def add(self, now_s: float, work_s: Sequence[float]) -> None:
        """Add work that takes ``work_s[i]`` seconds at level i."""
        self._turn(now_s)
        self._now = [sum(pair) for pair in zip(self._now, work_s, strict=True)]

    def shares(self, now_s: float) -> list[float]:
        """Seconds of work asked for in a second, by level."""
        start_s = self._turn(now_s)
        gone = min((now_s - start_s) / self._window_s, 1.0)
        return [
            (before * (1.0 - gone) + now) / self._window_s
            for before, now in zip(self._before, self._now, strict=True)
        ]

    def _turn(self, now_s: float) -> float:
        start_s = now_s if self._start_s is None else self._start_s
        if now_s - start_s >= self._window_s:
            whole = now_s - start_s < 2 * self._window_s
            self._before = self._now if whole else [0.0] * self._count
            self._now = [0.0] * self._count
            start_s = start_s + self._window_s if whole else now_s
        self._start_s = start_s
        return start_s


class SojournTimes:
    """How many requests took longer than a limit, over two windows in turn."""

    def __init__(self, window_s: float = 0.25) -> None:
        self._window_s = window_s
        self._start_s = 0.0
        self._now = [0, 0]  # late ones, all
        self._before = [0, 0]

    def add(self, now_s: float, late: int, total: int = 1) -> None:
        """Count ``total`` requests, of which ``late`` were."""
        self._turn(now_s)
        self._now[0] += late
        self._now[1] += total

    def late(self, now_s: float) -> bool:
        """Whether more than one in a hundred was late, and more than one at all."""
        self._turn(now_s)
        late, total = (sum(pair) for pair in zip(self._now, self._before, strict=True))
        return late > max(1, total // 100)

    def clear(self) -> None:
        """Forget all counts."""
        self._now = [0, 0]
        self._before = [0, 0]

    def _turn(self, now_s: float) -> None:
        gone_s = now_s - self._start_s
        if gone_s >= self._window_s:
            self._before = self._now if gone_s < 2 * self._window_s else [0, 0]
            self._now = [0, 0]
            self._start_s = now_s
