"""Damaged database files are kept beside their successors, for whoever wants to look at them."""

from __future__ import annotations

from pathlib import Path


def set_aside(path: Path) -> Path:
    """Rename a database and its companions to ``NAME.damaged-N``; the new path. ``OSError``."""
    aside = next(
        other
        for number in range(1, 1_000_000)
        if not (other := path.with_name(f"{path.name}.damaged-{number}")).exists()
    )
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        extra = path.with_name(path.name + suffix)
        if extra.exists():
            extra.rename(aside.with_name(aside.name + suffix))
    return aside
