"""What a sweep over fractions gave, as a value and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.atomic_file import replacing
from shared.errors import UsageError


@dataclass(frozen=True)
class Point:
    """One fraction of a curve; costs are of one image."""

    fraction: float
    accuracy: float
    recalibrated: float  # with statistics measured for this fraction
    macs: int
    parameter_bytes: int


@dataclass(frozen=True)
class Curve:
    """What an experiment gave."""

    settings: dict[str, Any]
    points: tuple[Point, ...]
    test_images: int
    seconds: float  # of training
    threads: int
    torch: str


def to_curve(value: Mapping[str, Any]) -> Curve:
    """The inverse of ``dataclasses.asdict``; ``TypeError`` or ``KeyError`` for anything else."""
    return Curve(**{**value, "points": tuple(Point(**entry) for entry in value["points"])})


def read_curve(path: Path) -> Curve | None:
    """The curve of a file of its own; None if there is no file. ``UsageError``: holds no curve."""
    if not path.exists():
        return None
    try:
        return to_curve(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: holds no curve ({error!r:.200}); remove it") from None


def write_curve(path: Path, curve: Curve) -> None:
    """Write a file for ``read_curve``."""
    write_json(path, asdict(curve))


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write all of it or nothing: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "--output") as new:
        new.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
