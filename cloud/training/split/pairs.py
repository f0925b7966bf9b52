"""Choose the pairs of levels that a step trains."""

from __future__ import annotations

import random

from cloud.training.split.settings import Settings
from shared.model.architecture import Architecture

Pairs = tuple[tuple[int, tuple[int, ...]], ...]  # (device level, its cloud levels) each


def draw_pairs(
    architecture: Architecture, settings: Settings, generator: random.Random, *, falling: bool
) -> Pairs:
    """Return the level pairs of one step, grouped by device level; the widest pair comes first.

    ``falling`` tells whether the learning rate is falling.
    """
    top = len(architecture.device_levels) - 1
    widest = len(architecture.cloud_levels) - 1
    wanted = [(top, widest)]
    if settings.pairs != "staged" or falling:
        wanted.append((0, 0))
    if settings.pairs == "grid" and widest:
        wanted.append((top, generator.randrange(widest)))
    for _ in range(settings.random_pairs):
        if settings.pairs == "grid" and top and widest:
            level = generator.randrange(top)
            wanted += [(level, generator.randrange(widest)), (level, widest)]
        else:
            wanted.append((generator.randrange(top + 1), generator.randrange(widest + 1)))
    grouped: dict[int, list[int]] = {}
    for level, cloud_level in wanted:
        if cloud_level not in grouped.setdefault(level, []):
            grouped[level].append(cloud_level)
    return tuple((level, tuple(found)) for level, found in grouped.items())


def macs(architecture: Architecture, pairs: Pairs) -> int:
    """Return the multiply-accumulates of ``pairs`` for one image."""
    return sum(
        architecture.device_macs(level) + sum(architecture.cloud_macs(level, c) for c in found)
        for level, found in pairs
    )
