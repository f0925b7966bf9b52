"""The clock of an agent: real time, or faster for a simulated device."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from device.energy.clock import boot_s


@dataclass(frozen=True)
class Pace:
    """A clock that starts at ``start_unix_s`` and runs ``speed`` times as fast as real time.

    Without a start it returns the machine's time, which may be set at any moment.
    """

    speed: float = 1.0
    start_unix_s: float | None = None
    _began_s: float = field(default_factory=boot_s)

    @property
    def elapsed_s(self) -> float:
        """Seconds that have passed on this clock."""
        return (boot_s() - self._began_s) * self.speed

    def now_unix_s(self) -> float:
        """Seconds since 1970 on this clock."""
        return time.time() if self.start_unix_s is None else self.start_unix_s + self.elapsed_s

    async def sleep(self, seconds: float, woken: asyncio.Event) -> bool:
        """Sleep for ``seconds`` of this clock or until ``woken`` is set; return whether
        it is set.
        """
        try:
            async with asyncio.timeout(seconds / self.speed):
                await woken.wait()
        except TimeoutError:
            return False
        woken.clear()
        return True
