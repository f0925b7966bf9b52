"""A discrete-event simulation of one serving core, and the formula that it is checked against."""

from __future__ import annotations

import random
import statistics
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import simpy

WARM_UP = 0.1  # share of the requests, at the beginning, that is not counted


@dataclass(frozen=True)
class Queue:
    """Latency in seconds, from arrival to answer, and the share of time in which the core
    is busy.
    """

    mean_s: float
    p50_s: float
    p99_s: float
    use: float


def simulate(rate: float, service_s: float, batch_s: float = 0.0, requests: int = 50_000) -> Queue:
    """Simulate requests that come at random moments, ``rate`` a second, and are answered in order.

    As in the server's event loop, all requests that have arrived are taken together: a turn takes
    ``batch_s``, and ``service_s`` for each of its requests, and its answers leave one by one.
    """
    environment = simpy.Environment()
    draw = random.Random(0)
    waiting: list[float] = []
    took: list[float] = []
    busy_s = 0.0
    came = environment.event()

    def arrive() -> Generator[Any, Any, None]:
        nonlocal came
        for _ in range(requests):
            yield environment.timeout(draw.expovariate(rate))
            waiting.append(environment.now)
            if not came.triggered:
                came.succeed()

    def serve() -> Generator[Any, Any, None]:
        nonlocal busy_s, waiting, came
        while len(took) < requests:
            if not waiting:
                came = environment.event()
                yield came
            turn, waiting = waiting, []
            yield environment.timeout(batch_s)
            for arrived in turn:
                yield environment.timeout(service_s)
                took.append(environment.now - arrived)
            busy_s += batch_s + service_s * len(turn)

    environment.process(arrive())
    environment.run(environment.process(serve()))
    counted = sorted(took[int(WARM_UP * requests) :])
    return Queue(
        statistics.fmean(counted),
        counted[len(counted) // 2],
        counted[int(0.99 * len(counted))],
        busy_s / environment.now,
    )


def expected_mean_s(rate: float, service_s: float) -> float:
    """Return the mean latency of an M/D/1 queue: Pollaczek (1930) and Khinchine (1932)."""
    use = rate * service_s
    return service_s + use * service_s / (2 * (1 - use))
