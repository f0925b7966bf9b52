"""Dispatchers that serve what a test wants counted."""

from __future__ import annotations

from typing import Any

from cloud.native import Dispatcher


def dispatcher(objective_s: float = 60.0, threads: int = 1) -> Dispatcher:
    """One with room for everything."""
    return Dispatcher(32, 1e-3, objective_s, 8192, None, threads)


def nothing_counted() -> dict[str, Any]:
    """Counters of a server that nobody has asked."""
    return dispatcher().counters()
