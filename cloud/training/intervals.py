"""Confidence intervals of shares, such as an accuracy measured on a number of images."""

from __future__ import annotations

import math

NORMAL_95 = 1.959964  # 95% of the standard normal distribution lie within this distance of 0


def wilson(share: float, count: int, z: float = NORMAL_95) -> tuple[float, float]:
    """Return the Wilson score interval (low, high) of ``share`` of ``count`` trials, by default
    95%.

    Source: Wilson, "Probable Inference" (1927). ``ValueError`` if ``count`` or ``share`` is
    invalid.
    """
    if count < 1 or not 0.0 <= share <= 1.0:
        raise ValueError(f"share {share} of {count} trials: give 0 to 1 of at least one")
    square = z * z / count
    centre = share + square / 2
    reach = z * math.sqrt(share * (1 - share) / count + square / (4 * count))
    low, high = (centre - reach) / (1 + square), (centre + reach) / (1 + square)
    return max(0.0, low), min(1.0, high)
