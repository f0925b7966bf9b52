"""Learn the energy that a battery harvests in each hour of the day, to forecast the next hours.

A day is 24 hours of the boot clock, counted from the first observation. So neither the wall clock,
which may be wrong, nor the position of the sun is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

DAY_S, HOUR_S = 86_400.0, 3_600.0
HOURS = 24
NEWEST = 0.5  # weight of the newest day in the mean of an hour
LONGEST_GAP_S = 2 * HOUR_S  # longer gaps between observations cannot be assigned to hours
Forecast = tuple[tuple[float, float], ...]


@dataclass
class HarvestHistory:
    """The mean harvest of each hour of the day; with the weather, actual values vary."""

    _mean_j: list[float | None] = field(default_factory=lambda: [None] * HOURS)
    _start_s: float | None = None
    _last_s: float = 0.0
    _stored_j: float = 0.0
    _hour: int = 0  # hours since the start
    _sum_j: float = 0.0
    _covered_s: float = 0.0

    def observe(self, now_s: float, stored_j: float, spent_j: float) -> None:
        """Record the stored energy, and the energy drawn since the last observation, in joules."""
        if self._start_s is None or not 0 <= now_s - self._last_s <= LONGEST_GAP_S:
            self._start_s = now_s if self._start_s is None else self._start_s
            self._last_s, self._stored_j = now_s, stored_j
            self._begin(now_s)
            return
        harvest_j = max(stored_j - self._stored_j + spent_j, 0.0)
        passed_s = now_s - self._last_s
        self._last_s, self._stored_j = now_s, stored_j
        if passed_s <= 0:
            return
        self._sum_j += harvest_j
        self._covered_s += passed_s
        if self._hour_at(now_s) != self._hour:
            self._close()
            self._begin(now_s)

    def forecast(self, now_s: float, horizon_s: float, steps: int = 28) -> Forecast:
        """Forecast the harvest as pairs (seconds ahead, joules harvested by then), ascending.

        Covers ``horizon_s`` seconds with ``steps`` pairs; the harvest is 0 until a day is known.
        """
        if self._start_s is None or any(mean is None for mean in self._mean_j):
            return ()
        day_j = sum(mean or 0.0 for mean in self._mean_j)
        points = []
        for index in range(1, steps + 1):
            ahead_s = horizon_s * index / steps
            days, rest_s = divmod(ahead_s, DAY_S)
            points.append((ahead_s, days * day_j + self._between(now_s, rest_s)))
        return tuple(points)

    def _between(self, now_s: float, seconds: float) -> float:
        """Return the joules expected in the next ``seconds``, which are less than a day."""
        total_j, at_s, end_s = 0.0, now_s, now_s + seconds
        while at_s < end_s:
            hour = self._hour_at(at_s)
            until_s = min((self._start_s or 0.0) + (hour + 1) * HOUR_S, end_s)
            if until_s <= at_s:
                break
            total_j += (self._mean_j[hour % HOURS] or 0.0) * (until_s - at_s) / HOUR_S
            at_s = until_s
        return total_j

    def _hour_at(self, now_s: float) -> int:
        return int((now_s - (self._start_s or 0.0)) // HOUR_S)

    def _begin(self, now_s: float) -> None:
        self._hour, self._sum_j, self._covered_s = self._hour_at(now_s), 0.0, 0.0

    def _close(self) -> None:
        """Add the harvest of the hour that has ended to its mean."""
        if self._covered_s < HOUR_S / 2:
            return  # too little of the hour was observed
        found_j = self._sum_j * HOUR_S / self._covered_s
        place = self._hour % HOURS
        before_j = self._mean_j[place]
        self._mean_j[place] = (
            found_j if before_j is None else before_j + NEWEST * (found_j - before_j)
        )


class Prospect:
    """Forecasts the energy from charging within ``lifetime_s``, learning at every call.

    A real battery shows only the difference of charging and consumption. The consumption is assumed
    to be ``idle_w``, its least possible value, so that the forecast is rather too low.
    """

    def __init__(self, idle_w: float, lifetime_s: float) -> None:
        self._idle_w = idle_w
        self._lifetime_s = lifetime_s
        self._history = HarvestHistory()
        self._asked_s: float | None = None

    def __call__(self, now_s: float, stored_j: float) -> Forecast:
        """Record the stored energy and return the forecast of ``HarvestHistory``."""
        passed_s = 0.0 if self._asked_s is None else max(now_s - self._asked_s, 0.0)
        self._asked_s = now_s
        self._history.observe(now_s, stored_j, self._idle_w * passed_s)
        return self._history.forecast(now_s, self._lifetime_s)
