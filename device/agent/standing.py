"""Track why a device has no connection to its broker, and whether another device has its name."""

from __future__ import annotations

import logging
from collections import deque

from device.energy.clock import Clock, boot_s
from device.transport.backoff import Backoff
from shared.errors import BrokerError, TakenOverError
from shared.fleet.losses import Losses
from shared.fleet.messages import Birth

STEADY_S = 120.0  # a connection that lasts longer is not contested by another device
KEPT = 100  # own births remembered, to distinguish them from another device's
_log = logging.getLogger(__name__)


class Standing:
    """Logs why ``device`` has no connection, once, and determines the wait before the next attempt.

    It also detects a second device with the same name. The broker retains the last birth under a
    name, and every new connection receives it. After a device has received its own birth, any birth
    that it did not write is from another device, and the two disconnect each other in turn. Both
    then wait longer, so that each is connected for a while. (The broker's notice of a takeover is
    not sufficient: it can be lost when the connection closes.)
    """

    def __init__(self, device: str, clock: Clock = boot_s) -> None:
        self.failure = ""  # why there is no connection
        self._device = device
        self._clock = clock
        self._soon = Backoff(0.5, 10.0)
        self._contested = Backoff(2.0, 60.0)
        self._losses = Losses()
        self._ours: deque[Birth] = deque(maxlen=KEPT)
        self._seen_ours = False
        self._is_pushed_out = False
        self._namesake = ""
        self._namesake_s = 0.0  # when its last birth arrived
        self._connected_s = clock()

    @property
    def namesake(self) -> str:
        """A description of another device with this name; empty if there is none."""
        is_recent = self._clock() - self._namesake_s < STEADY_S
        return self._namesake if is_recent else ""

    def announce(self, birth: Birth) -> None:
        """Record that a connection begins with this birth."""
        self._ours.append(birth)
        self._is_pushed_out = False
        self._connected_s = self._clock()

    def record_connected(self) -> None:
        """Record that the connection is established."""
        self.failure = ""
        self._soon.reset()

    def examine(self, birth: Birth) -> None:
        """Examine a birth that arrived under this device's name."""
        if birth in self._ours:
            self._seen_ours = True
            return
        if not self._seen_ours:  # retained from an earlier run of this device
            return
        if birth.epoch == self._ours[-1].epoch and birth.session < self._ours[0].session:
            return  # also from an earlier run, if the broker has lost later births
        known, self._namesake_s, self._is_pushed_out = self.namesake, self._clock(), True
        self._namesake = (
            f"another device has this name ({birth.hardware or 'unknown'}, {birth.software});"
            " give each its own --device"
        )
        if self._namesake != known:
            _log.warning("%s: %s", self._device, self._namesake)

    def lose(self, error: BrokerError) -> None:
        """Log why the connection was lost; each reason once until the next connection."""
        text = str(error)
        taken_over = isinstance(error, TakenOverError)
        self._is_pushed_out |= taken_over
        if self._losses.repeated() and self.failure == "" and not (taken_over or self.namesake):
            text += "; is there another device with this name?"
        if text != self.failure:
            _log.info("%s: not connected: %s", self._device, text)
        self.failure = text

    def wait_s(self) -> float:
        """Seconds to wait before the next connection."""
        if self._clock() - self._connected_s > STEADY_S:
            self._contested.reset()
        return (self._contested if self._is_pushed_out else self._soon).next_s()
