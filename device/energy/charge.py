"""The state of a battery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Charge:
    """State of a battery: ``level`` from 0 (empty) to 1 (full), and whether it is being charged."""

    level: float
    plugged: bool


class Battery(Protocol):
    """Anything whose charge can be read."""

    def charge(self) -> Charge:
        """Return the present state."""
