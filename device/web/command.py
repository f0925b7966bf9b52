"""``python -m device.web``: write the files with which a page runs a bundle's device half."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from device.micro.blob import make_blob
from device.web.broker_library import PACKAGE, fetch_library, is_library
from device.web.build import SCRIPTS, compile_engine
from device.web.description import describe
from shared.atomic_file import replacing
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.command import run_command
from shared.errors import UsageError
from shared.model.bundle import DEVICE_GROUPS, read_bundle

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
stderr = Console(stderr=True, soft_wrap=True)


@app.command()
def build(
    output: Annotated[Path, typer.Option(help="Folder to write; files in it are replaced.")],
    bundle: Annotated[
        str, typer.Argument(help="Shipped bundle by name, or a bundle file.")
    ] = DEFAULT_MODEL,
    fleet: Annotated[
        bool,
        typer.Option(
            "--fleet/--no-fleet", help="Also fetch mqtt.js, with which a page joins a fleet."
        ),
    ] = True,
) -> None:
    """Write **taper.wasm**, its JavaScript, and the model with its description."""
    given = read_bundle(bundle_path(bundle, "BUNDLE"), DEVICE_GROUPS)
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output: {output} is not a folder")
    levels = range(len(given.architecture.device_levels))
    blob = make_blob(given, levels)
    module = compile_engine()
    output.mkdir(parents=True, exist_ok=True)
    name = given.metadata.name
    files = {
        **{script.name: script.read_bytes() for script in SCRIPTS},
        "taper.wasm": module,
        f"{name}.blob": blob,
        f"{name}.json": (json.dumps(describe(given), separators=(",", ":")) + "\n").encode(),
    }
    for file, content in files.items():
        with replacing(output / file, "--output") as temporary:
            temporary.write_bytes(content)
    sizes = ", ".join(f"{file} {len(content)}" for file, content in files.items())
    stderr.print(f"{output}: {sizes} bytes", markup=False, highlight=False)
    if fleet:
        add_library(output)


def add_library(output: Path) -> None:
    """Fetch the MQTT library, without which a page cannot join a fleet, unless it is there."""
    target = output / "mqtt.js"
    if is_library(target):
        return
    try:
        content = fetch_library()
    except OSError as error:
        why = f"{PACKAGE} was not fetched ({error}): the page works, but joins no fleet"
        stderr.print(why, markup=False, highlight=False)
        return
    with replacing(target, "--output") as temporary:
        temporary.write_bytes(content)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_command(app, arguments)
