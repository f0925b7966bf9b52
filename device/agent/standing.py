"""Why a device is not connected to its broker, and whether another one has its name."""

from __future__ import annotations

import logging
from collections import deque

from device.energy.clock import Clock, boot_s
from device.transport.backoff import Backoff
from shared.errors import BrokerError, TakenOverError
from shared.fleet.losses import Losses
from shared.fleet.messages import Birth

STEADY_S = 120.0  # a connection that lasts as long is not contested
KEPT = 100  # births of this process that are told from another device's
_log = logging.getLogger(__name__)


class Standing:
    """Says why ``device`` has no connection, once, and how long to wait before the next.

    The broker keeps the last birth under a device's name, and a connection receives it. Once a
    device has seen its own there, any birth that it did not write is another device's: the two
    push each other out. Both then wait longer, and are connected in turn for a while. (That the
    broker says at a takeover who took over is not enough: it is lost where the connection closes
    with something under way.)
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
        self._namesake_s = 0.0  # when it was seen last
        self._connected_s = clock()

    @property
    def namesake(self) -> str:
        """What is known of another device with this name; empty if there is none."""
        is_recent = self._clock() - self._namesake_s < STEADY_S
        return self._namesake if is_recent else ""

    def announce(self, birth: Birth) -> None:
        """Begin a connection with this birth."""
        self._ours.append(birth)
        self._is_pushed_out = False
        self._connected_s = self._clock()

    def welcome(self) -> None:
        """The connection stands."""
        self.failure = ""
        self._soon.reset()

    def hear(self, birth: Birth) -> None:
        """A birth under our name has come; ours or another device's."""
        if birth in self._ours:
            self._seen_ours = True
            return
        if not self._seen_ours:  # of an earlier run
            return
        if birth.epoch == self._ours[-1].epoch and birth.session < self._ours[0].session:
            return  # also of an earlier run: the broker has lost the later ones
        known, self._namesake_s, self._is_pushed_out = self.namesake, self._clock(), True
        self._namesake = (
            f"another device has this name ({birth.hardware or 'unknown'}, {birth.software});"
            " give each its own --device"
        )
        if self._namesake != known:
            _log.warning("%s: %s", self._device, self._namesake)

    def lose(self, error: BrokerError) -> None:
        """Log why there is no connection: a reason once, until there was a connection again."""
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
