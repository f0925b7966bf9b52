"""What a battery gets by the hour of the day, learnt from the days before.

The day is 24 hours of the boot clock from the first observation on: neither the wall clock, which
may be wrong, nor the place of the sun needs to be known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

DAY_S, HOUR_S = 86_400.0, 3_600.0
HOURS = 24
NEWEST = 0.5  # weight of the last day in the mean of an hour
LONGEST_GAP_S = 2 * HOUR_S  # between observations that say by what hour something came
Forecast = tuple[tuple[float, float], ...]


@dataclass
class HarvestHistory:
    """Mean harvest of each hour of the day; weather makes it a mean, not a promise."""

    _mean_j: list[float | None] = field(default_factory=lambda: [None] * HOURS)
    _start_s: float | None = None
    _last_s: float = 0.0
    _stored_j: float = 0.0
    _hour: int = 0  # since the start
    _sum_j: float = 0.0
    _covered_s: float = 0.0

    def observe(self, now_s: float, stored_j: float, spent_j: float) -> None:
        """Note what the battery holds, and what was drawn from it since the last observation."""
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
        """Joules harvested by each of ``steps`` moments ahead; nothing before a day is known.

        Pairs (seconds ahead, joules), ascending.
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
        """Joules of the next ``seconds``, less than a day."""
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
        """Take what came in the hour that has ended into its mean."""
        if self._covered_s < HOUR_S / 2:
            return  # too little was seen of it
        found_j = self._sum_j * HOUR_S / self._covered_s
        place = self._hour % HOURS
        before_j = self._mean_j[place]
        self._mean_j[place] = (
            found_j if before_j is None else before_j + NEWEST * (found_j - before_j)
        )


class Prospect:
    """What charging will bring within ``lifetime_s``, learnt while it is asked.

    A real battery shows only what is left over; ``idle_w``, the least that was drawn meanwhile, is
    added, so that the forecast is on the safe side.
    """

    def __init__(self, idle_w: float, lifetime_s: float) -> None:
        self._idle_w = idle_w
        self._lifetime_s = lifetime_s
        self._history = HarvestHistory()
        self._asked_s: float | None = None

    def __call__(self, now_s: float, stored_j: float) -> Forecast:
        """The forecast of ``HarvestHistory``, after an observation of ``stored_j``."""
        passed_s = 0.0 if self._asked_s is None else max(now_s - self._asked_s, 0.0)
        self._asked_s = now_s
        self._history.observe(now_s, stored_j, self._idle_w * passed_s)
        return self._history.forecast(now_s, self._lifetime_s)
