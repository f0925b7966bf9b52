"""Results of sweeps over fractions, as values and as JSON files that keep every seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.atomic_file import replacing
from shared.errors import UsageError

FORMAT = 2


@dataclass(frozen=True)
class Point:
    """The results at one fraction of a curve; costs are per image."""

    fraction: float
    accuracy: dict[str, float]  # by the name of the evaluation
    macs: int
    parameter_bytes: int


@dataclass(frozen=True)
class Curve:
    """Accuracy and cost of one trained network over fractions."""

    settings: dict[str, Any]
    points: tuple[Point, ...]
    test_images: int
    seconds: float  # training time
    threads: int
    torch: str
    device: str = "cpu"

    @property
    def evaluations(self) -> tuple[str, ...]:
        """Names of the evaluations that were measured."""
        return tuple(self.points[0].accuracy)


Runs = tuple[Curve, ...]  # the curves of one line of a figure, one for each seed


def unseeded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``settings`` without its seed and without that of the network it started from."""
    plain = {name: value for name, value in settings.items() if name != "seed"}
    return {**plain, "start": unseeded(plain["start"])} if "start" in plain else plain


def to_curve(value: Mapping[str, Any]) -> Curve:
    """Make a curve from the output of ``dataclasses.asdict``; ``TypeError`` or ``KeyError``."""
    return Curve(**{**value, "points": tuple(Point(**entry) for entry in value["points"])})


def read_curve(path: Path) -> Curve | None:
    """Read the curve in a file; None if there is no file; ``UsageError`` for other content."""
    if not path.exists():
        return None
    try:
        return to_curve(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: holds no curve ({error!r:.200}); remove it") from None


def write_curve(path: Path, curve: Curve) -> None:
    """Write one curve as JSON."""
    write_json(path, asdict(curve))


def read_results(path: Path) -> dict[str, Runs]:
    """Read the runs of a figure by line; empty without a file; ``UsageError`` for other content."""
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise UsageError(f"{path}: has format {document['format']}, not {FORMAT}")
        return {
            line: tuple(to_curve(value) for value in runs)
            for line, runs in document["curves"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: holds no results of a figure ({error!r:.200})") from None


def write_results(
    path: Path,
    figure: str,
    title: str,
    results: Mapping[str, Runs],
    summary: Mapping[str, Any],
) -> None:
    """Write all runs of a figure as JSON, with their ``summary`` for other programs."""
    document = {
        "format": FORMAT,
        "figure": figure,
        "title": title,
        "command": f"python -m cloud.training.reproduce {figure}",
        "summary": summary,
        "curves": {line: [asdict(curve) for curve in runs] for line, runs in results.items()},
    }
    write_json(path, document)


def with_run(path: Path, runs: Runs, new: Curve, *, replace: bool) -> Runs:
    """Return ``runs`` with ``new`` in place of a run with the same seed, sorted by seed.

    With ``replace``, runs with other settings are dropped. Without it they raise ``UsageError``,
    since a line can only show runs with equal settings.
    """
    check_alike(path, runs, new.settings, replace=replace)
    wanted = unseeded(new.settings)
    kept = [
        run
        for run in runs
        if unseeded(run.settings) == wanted and run.settings["seed"] != new.settings["seed"]
    ]
    return tuple(sorted([*kept, new], key=lambda run: int(run.settings["seed"])))


def check_alike(path: Path, runs: Runs, settings: Mapping[str, Any], *, replace: bool) -> None:
    """Raise ``UsageError``, naming the first difference, if a run had other settings.

    Only the keys of ``settings`` are compared, and seeds are ignored.
    """
    ours = unseeded(settings)
    for run in () if replace else runs:
        theirs = unseeded(run.settings)
        for name, value in ours.items():
            if theirs.get(name) != value:
                raise UsageError(
                    f"{path}: holds a curve made with {name} {theirs.get(name)!r}, not {value!r}; "
                    "give another --output-dir, or --replace to give it up"
                )


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write ``document`` as JSON, atomically."""
    write_text(path, json.dumps(document, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "--output-dir") as new:
        new.write_text(text, encoding="utf-8")
