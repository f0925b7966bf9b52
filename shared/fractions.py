"""Fractions: the number of leading channels for a fraction, and the trained level that
serves it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from shared.errors import FractionError

# 0.55 * 100 is 55.00000000000001 in floating point; without this its ceiling would be 56.
ROUNDING_SLACK = 1e-9


def check_fraction(value: float, name: str = "fraction") -> float:
    """Return ``value`` if it is in (0, 1]; else raise ``FractionError`` that names ``name``."""
    if not 0.0 < value <= 1.0:  # also true for NaN
        raise FractionError(f"{name}: {value:g} is not allowed; give a number above 0, up to 1")
    return value


def parse_fraction(text: str, name: str = "fraction") -> float:
    """Parse a fraction; raises ``FractionError`` that names ``name``."""
    try:
        value = float(text)
    except ValueError:
        raise FractionError(
            f"{name}: {text!r} is not a number; give a number above 0 and up to 1"
        ) from None
    return check_fraction(value, name)


def channels(fraction: float, total: int, step: int = 1) -> int:
    """Return how many of ``total`` leading channels are used at ``fraction``.

    ``clamp(ceil(fraction * total), 1, total)``, rounded up to whole steps of ``step`` channels
    (8 where channels are processed as bytes, 1 for the layer whose output is sent).
    """
    check_fraction(fraction)
    count = min(max(math.ceil(fraction * total - ROUNDING_SLACK), 1), total)
    return min(-(-count // step) * step, total)


def check_levels(levels: Sequence[float], name: str = "levels") -> tuple[float, ...]:
    """Return ``levels`` as a tuple if they ascend in (0, 1] and end with 1; ``FractionError``."""
    checked = tuple(check_fraction(level, name) for level in levels)
    if not checked or checked[-1] != 1.0 or list(checked) != sorted(set(checked)):
        raise FractionError(f"{name}: {list(levels)} must ascend and end with 1")
    return checked


def level_for(fraction: float, levels: Sequence[float]) -> int:
    """Return the index of the smallest of the ascending ``levels`` that is >= ``fraction``."""
    check_fraction(fraction)
    for index, level in enumerate(levels):
        if level >= fraction - ROUNDING_SLACK:
            return index
    return len(levels) - 1
