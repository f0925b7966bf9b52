"""The cloud's load and fraction, read from a server's Prometheus endpoint."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections import deque
from dataclasses import dataclass
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families

EVERY_S = 1.0
TIMEOUT_S = 2.0
KEPT = 300  # points of the chart


@dataclass(frozen=True)
class CloudPoint:
    """A server's metrics at ``unix_s``."""

    unix_s: float
    load: float
    fraction: float
    queued: float
    requests: float  # number since the server's start


class CloudPage:
    """Polls the metrics endpoint at ``url``; ``error`` is why the last attempt failed, or empty."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.points: deque[CloudPoint] = deque(maxlen=KEPT)
        self.error = "not read yet"

    async def run(self) -> None:
        """Poll the endpoint until cancelled."""
        while True:
            try:
                self.points.append(parse(await asyncio.to_thread(self._read), time.time()))
                self.error = ""
            except (OSError, HTTPException, ValueError, KeyError) as error:
                self.error = f"{self.url}: {error}"
            await asyncio.sleep(EVERY_S)

    @property
    def rate(self) -> float | None:
        """Requests a second over the last points; None if there are too few."""
        points = list(self.points)[-10:]
        if len(points) < 2 or points[-1].requests < points[0].requests:
            return None
        return (points[-1].requests - points[0].requests) / (points[-1].unix_s - points[0].unix_s)

    def _read(self) -> str:
        with urllib.request.urlopen(self.url, timeout=TIMEOUT_S) as page:  # noqa: S310 - http, checked
            text: bytes = page.read()
        return text.decode()


def parse(text: str, now_s: float) -> CloudPoint:
    """Read the point out of a metrics page; ``KeyError`` names a missing metric."""
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0.0) + sample.value
    return CloudPoint(
        now_s,
        values["taper_load"],
        values["taper_cloud_fraction"],
        values["taper_queue_samples"],
        values.get("taper_requests_total", 0.0),
    )
