"""Parse durations as users write them, such as ``7d``, ``90m`` or ``1h30m``."""

from __future__ import annotations

import re

from shared.errors import UsageError

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])\s*")


def duration_s(text: str) -> float:
    """Parse one or more numbers with units (s, m, h, d, w) into seconds; ``ValueError``."""
    stripped = text.strip()
    parts = list(_PART.finditer(stripped))
    if not parts or "".join(part[0] for part in parts) != stripped:
        raise ValueError(f"{text!r} is not a time; give e.g. 90s, 1h30m or 7d")
    return sum(float(part[1]) * UNITS_S[part[2]] for part in parts)


def parse_duration(text: str, flag: str) -> float:
    """Parse ``text`` into seconds, which must be above 0; ``UsageError`` names ``flag``."""
    try:
        seconds = duration_s(text)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise UsageError(f"{flag}: {text!r} is not allowed; give a time such as 7d, 36h or 1h30m")
    return seconds
