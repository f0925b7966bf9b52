"""From the battery's charge to the fraction of the channels that the device computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from device.battery import Charge
from shared.fractions import check_fraction, level_for


class Policy(Protocol):
    """Chooses the device level."""

    def level(self, charge: Charge) -> int:
        """Index of the device level to use at ``charge``."""


@dataclass(frozen=True)
class FixedPolicy:
    """Always the level of one fraction."""

    fraction: float
    levels: Sequence[float]

    def level(self, charge: Charge) -> int:  # noqa: ARG002 - the charge makes no difference here
        """The fixed level."""
        return level_for(self.fraction, self.levels)


class LinearPolicy:
    """The fraction follows the charge; plugged in means the whole network.

    A level is left only when the charge has moved ``margin`` past the border to the next one, so
    that a charge which hovers there does not make the level flicker.
    """

    def __init__(self, levels: Sequence[float], margin: float = 0.02) -> None:
        self._levels = tuple(check_fraction(level, "levels") for level in levels)
        self._margin = margin
        self._last: int | None = None

    def level(self, charge: Charge) -> int:
        """The level for ``charge``, given the one before."""
        if charge.plugged:
            self._last = len(self._levels) - 1
        elif self._last is None:
            self._last = self._plain(charge.level)
        else:
            lowest = self._plain(charge.level - self._margin)
            highest = self._plain(charge.level + self._margin)
            self._last = min(max(self._last, lowest), highest)
        return self._last

    def _plain(self, charge: float) -> int:
        # An empty battery still gives the narrowest level: a fraction of 0 is no network.
        return level_for(min(max(charge, 1e-6), 1.0), self._levels)
