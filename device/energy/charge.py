"""What is known of a battery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Charge:
    """State of a battery: ``level`` from 0 (empty) to 1 (full), and whether it is being charged."""

    level: float
    plugged: bool


class Battery(Protocol):
    """Something with a charge."""

    def charge(self) -> Charge:
        """The state now."""
