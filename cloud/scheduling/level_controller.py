"""The level controller: how wide the cloud computes, so that answers come in time.

It narrows at once when the predicted delay passes the objective, and widens one step at a time
when demand would leave slack at the wider level, for a while. A step up that had to be taken back
is not tried again under the same demand until a waiting time is over, which doubles each time: so
under a steady load the level settles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NARROW_AT = 0.7  # share of the objective that the predicted delay may reach
WIDEN_BELOW = 0.4  # share of the objective below which the wider level's delay must stay
SLACK = 0.75  # share of the wider level's capacity that demand may take
HOLD_S = 0.6  # how long the reasons to widen must hold
PROBATION_S = 3.0  # a step up that lasted this long has worked
LONGEST_WAIT_S = 60.0
LESS_DEMAND = 0.8  # share of the demand at a failed step up that counts as less


@dataclass
class _Failure:
    """A step up that had to be taken back."""

    demand: float
    until_s: float
    wait_s: float


class LevelController:
    """Chooses a level index, 0 the narrowest to ``count - 1``. Times are seconds of any clock."""

    def __init__(self, count: int, objective_s: float, pinned: int | None = None) -> None:
        self._count = count
        self._objective_s = objective_s
        self._pinned = pinned
        self._level = count - 1 if pinned is None else pinned
        self._fit_since_s: float | None = None
        self._raised_s: float | None = None
        self._failures: dict[int, _Failure] = {}

    @property
    def level(self) -> int:
        """The level that is in use."""
        return self._level

    def update(self, now_s: float, delays_s: Sequence[float], demand: Sequence[float]) -> int:
        """The level from now on.

        ``delays_s[i]`` is the predicted delay of the newest request if everything that waits ran at
        level i, ``demand[i]`` what is asked for, as a share of the capacity at level i. Both grow
        with i.
        """
        if self._pinned is not None:
            return self._level
        if delays_s[self._level] > NARROW_AT * self._objective_s:
            self._narrow(now_s, delays_s, demand)
        else:
            self._widen(now_s, delays_s, demand)
        return self._level

    def _narrow(self, now_s: float, delays_s: Sequence[float], demand: Sequence[float]) -> None:
        self._fit_since_s = None
        fitting = [
            level
            for level in range(self._level)
            if delays_s[level] <= NARROW_AT * self._objective_s
        ]
        target = max(fitting, default=0)
        if target == self._level:
            return
        if self._raised_s is not None and now_s - self._raised_s < PROBATION_S:
            before = self._failures.get(self._level)
            wait_s = HOLD_S * 4 if before is None else min(2 * before.wait_s, LONGEST_WAIT_S)
            self._failures[self._level] = _Failure(demand[0], now_s + wait_s, wait_s)
        self._raised_s = None
        self._level = target

    def _widen(self, now_s: float, delays_s: Sequence[float], demand: Sequence[float]) -> None:
        if self._raised_s is not None and now_s - self._raised_s >= PROBATION_S:
            self._failures.pop(self._level, None)
            self._raised_s = None
        wider = self._level + 1
        if wider >= self._count or not self._fits(now_s, wider, delays_s, demand):
            self._fit_since_s = None
            return
        if self._fit_since_s is None:
            self._fit_since_s = now_s
        if now_s - self._fit_since_s < HOLD_S:
            return
        self._level = wider
        self._raised_s = now_s
        self._fit_since_s = now_s

    def _fits(
        self, now_s: float, wider: int, delays_s: Sequence[float], demand: Sequence[float]
    ) -> bool:
        if demand[wider] > SLACK or delays_s[wider] > WIDEN_BELOW * self._objective_s:
            return False
        failure = self._failures.get(wider)
        if failure is None:
            return True
        return now_s >= failure.until_s or demand[0] < LESS_DEMAND * failure.demand


class Demand:
    """What was asked for lately: work per second, by level, over a window of about a second."""

    def __init__(self, count: int, window_s: float = 0.5) -> None:
        self._window_s = window_s
        self._count = count
        self._start_s: float | None = None
        self._now = [0.0] * count
        self._before = [0.0] * count

    def add(self, now_s: float, work_s: Sequence[float]) -> None:
        """``work_s[i]`` more seconds of computing at level i were asked for."""
        self._turn(now_s)
        self._now = [sum(pair) for pair in zip(self._now, work_s, strict=True)]

    def shares(self, now_s: float) -> list[float]:
        """Seconds of computing that are asked for in a second, by level."""
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
