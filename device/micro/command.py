"""``python -m device.micro``: a bundle's device half as C sources for a microcontroller."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from device.micro import sources
from device.micro.blob import make_blob
from device.micro.footprint import ENGINE, compiled
from device.micro.plan import plan_for
from shared.bundles import bundle_path
from shared.command import run_command
from shared.errors import UsageError
from shared.fractions import parse_fraction
from shared.model.architecture import Architecture
from shared.model.bundle import DEVICE_GROUPS, read_bundle
from shared.model.footprint import arena_bytes

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
stderr = Console(stderr=True, soft_wrap=True)


class Target(str, Enum):
    """Build systems that a folder is laid out for."""

    CMAKE = "cmake"
    ARDUINO = "arduino"


@app.command()
def generate(
    bundle: Annotated[str, typer.Argument(help="Shipped bundle by name, or a bundle file.")],
    output: Annotated[Path, typer.Option(help="Folder to write; it must be new or empty.")],
    levels: Annotated[
        str | None, typer.Option(help="Fractions to keep, such as 0.125,0.3,1; default: all.")
    ] = None,
    target: Annotated[Target, typer.Option(help="Build system.")] = Target.CMAKE,
    max_ram: Annotated[
        int | None,
        typer.Option(min=1, help="Refuse a model whose arena and stack need more bytes than this."),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            help="Write the cheapest plan of two looks that is right so often, such as 0.985; "
            "without: one look."
        ),
    ] = None,
) -> None:
    """Write the C engine, the model as a constant, an example and a memory report."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"--output: {output} is not an empty folder")
    given = read_bundle(bundle_path(bundle, "BUNDLE"), DEVICE_GROUPS)
    architecture = given.architecture
    chosen = parse_levels(levels, architecture)
    plan = plan_for(given, chosen, min_accuracy)
    blob = make_blob(given, chosen)
    report = sources.Report(
        name=given.metadata.name,
        architecture=architecture,
        levels=tuple(chosen),
        blob_bytes=len(blob),
        arena_bytes=arena_bytes(architecture, chosen),
        code=compiled(),
    )
    if max_ram is not None and report.ram_bytes > max_ram:
        raise UsageError(
            f"--max-ram: {max_ram} bytes is too small; {given.metadata.name} needs "
            f"{report.ram_bytes} ({report.arena_bytes} of them arena) at {report.fractions}"
        )
    write(output, target, sources.model_header(report, blob, plan), report)
    stderr.print(sources.summary(report), markup=False, highlight=False)


def parse_levels(text: str | None, architecture: Architecture) -> list[int]:
    """Return the indices of the device levels in ``text``; ``UsageError`` names the known ones."""
    known = architecture.device_levels
    if text is None:
        return list(range(len(known)))
    wanted = {parse_fraction(part, "--levels") for part in text.split(",")}
    for fraction in sorted(wanted - set(known)):
        have = ", ".join(f"{level:g}" for level in known)
        raise UsageError(f"--levels: {fraction:g} is no level of this bundle; it has {have}")
    return [index for index, level in enumerate(known) if level in wanted]


def write(output: Path, target: Target, model: str, report: sources.Report) -> None:
    """Write the folder in the layout of the build system."""
    code = output / "src" if target is Target.ARDUINO else output
    code.mkdir(parents=True, exist_ok=True)
    for source in sorted((*ENGINE.glob("*.c"), *ENGINE.glob("*.h"))):
        shutil.copyfile(source, code / source.name)
    (code / "model.h").write_text(model)
    (output / "README.md").write_text(sources.readme(report))
    if target is Target.ARDUINO:
        (output / f"{output.resolve().name}.ino").write_text(sources.SKETCH)
    else:
        (output / "CMakeLists.txt").write_text(sources.CMAKE)
        (output / "example.c").write_text(sources.EXAMPLE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_command(app, arguments)
