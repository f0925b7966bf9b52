"""``python -m cloud.training.architecture``: suggest a network, or show its costs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from cloud.training.data.command import parse_size
from cloud.training.data.datasets import Dataset
from cloud.training.split.architecture_file import read_architecture, to_toml
from cloud.training.split.context import ContextSettings
from cloud.training.split.export import export
from cloud.training.split.suggest import suggest
from shared.atomic_file import replacing
from shared.bundles import bundle_path
from shared.energy.hardware import HARDWARE
from shared.energy.model import EnergyModel, device_work
from shared.errors import UsageError
from shared.model.architecture import NAME, Architecture
from shared.model.bundle import DEVICE_GROUPS, read_bundle, serialise
from shared.model.footprint import arena_bytes
from shared.networks.binarynet import BinaryNet
from shared.typer_app import run_app

PICTURES = 16  # noise pictures with which an untrained network is exported to get its size

app = typer.Typer(add_completion=False, rich_markup_mode="markdown", no_args_is_help=True)
console = Console(soft_wrap=True, highlight=False)

Size = Annotated[str, typer.Option(help="HxW of the pictures, e.g. 96x96.")]
Classes = Annotated[int, typer.Option(min=2)]
Grey = Annotated[bool, typer.Option("--grey", help="Pictures are grey.")]


@dataclass(frozen=True)
class Sizes:
    """Sizes in bytes of an untrained network's bundle, and of the device's part of it."""

    bundle: int
    device: int


@app.command("suggest")
def suggest_command(
    size: Size,
    classes: Classes,
    device_mmac: Annotated[
        float, typer.Option(min=0.01, help="Millions of multiply-accumulates on the device, d = 1.")
    ] = 20.0,
    payload: Annotated[
        int, typer.Option(min=1, help="Bytes sent for a picture at d = 1, before coding.")
    ] = 300,
    grey: Grey = False,
    output: Annotated[
        Path | None, typer.Option(help="File to write (default: own-HxW.toml).")
    ] = None,
) -> None:
    """Write a network that stays within a budget as a file to edit, and print its costs."""
    shape = parse_size(size, 1 if grey else 3)
    target = output or Path(f"own-{shape.height}x{shape.width}.toml")
    name = re.sub(r"[^A-Za-z0-9_-]", "-", target.stem)
    if NAME.fullmatch(name) is None:
        raise UsageError(f"--output: {target.name} gives no name; use letters, digits, - and _")
    if target.exists():
        raise UsageError(f"--output: {target} is there; remove it or give another name")
    made = suggest(shape, classes, device_mmac * 1e6, payload, name)
    write(target, made)
    show(made)
    console.print(f"wrote {target}; train it with --architecture {target}", markup=False)


@app.command("show")
def show_command(
    network: Annotated[str, typer.Argument(help="Network file (*.toml), or a bundle.")],
    size: Annotated[str, typer.Option(help="HxW of the pictures, for a network file.")] = "",
    classes: Annotated[int, typer.Option(min=0, help="Number of classes, for a network file.")] = 0,
    grey: Grey = False,
    output: Annotated[
        Path | None, typer.Option(help="Also write the network as a file (*.toml).")
    ] = None,
) -> None:
    """Print the costs of the network in a file or a bundle."""
    if network.endswith(".toml"):
        if not size or classes < 2:
            raise UsageError("--size and --classes: both are needed for a network file")
        made = read_architecture(Path(network), parse_size(size, 1 if grey else 3), classes)
    else:
        made = read_bundle(bundle_path(network, "NETWORK")).architecture
    if output:
        write(output, made)
    show(made)


def write(path: Path, architecture: Architecture) -> None:
    """Write a network as a TOML file; ``UsageError`` names --output.

    Networks that the format cannot describe are refused: those whose stages have their own names or
    are not convolutions.
    """
    shape, classes = architecture.input_shape, architecture.classes
    with replacing(path, "--output") as temporary:
        temporary.write_text(to_toml(architecture), encoding="utf-8")
        if read_architecture(temporary, shape, classes) != architecture:
            raise UsageError(
                f"--output: a file cannot describe {architecture.name}; its stages have other "
                "names or kinds"
            )


def show(architecture: Architecture) -> None:
    """Print operations and bytes of every level, memory, and energy on each kind of hardware."""
    table = Table(title=architecture.name)
    for column in ("d", "device MMAC", "cloud MMAC (c = 1)", "bytes sent"):
        table.add_column(column, justify="right")
    top = len(architecture.cloud_levels) - 1
    for level, fraction in enumerate(architecture.device_levels):
        table.add_row(
            f"{fraction:g}",
            f"{architecture.device_macs(level) / 1e6:.2f}",
            f"{architecture.cloud_macs(level, top) / 1e6:.2f}",
            str(architecture.sent_shape(level).packed_bytes),
        )
    console.print(table)
    sizes = sizes_of(architecture)
    levels = range(len(architecture.device_levels))
    picture = architecture.input_shape.size
    boards = (
        f"RAM of the device half: {arena_bytes(architecture, levels)} bytes and the engine's "
        f"stack, besides the picture ({picture})",
        f"flash of the device half: about {sizes.device} bytes of model and the engine's code "
        "(python -m device.micro says both exactly)",
    )
    for line in (
        *(("boards run no strides; the packed runtime does",) if architecture.strided else boards),
        f"bundle: about {sizes.bundle} bytes",
    ):
        console.print(line, markup=False)
    console.print(energy(architecture))


def energy(architecture: Architecture) -> Table:
    """Return a table of microjoules per picture, computing and sending, at the extreme levels."""
    table = Table(title="microjoules a picture: computing + one request")
    table.add_column("hardware")
    ends = (0, len(architecture.device_levels) - 1)
    for level in ends:
        table.add_column(f"d = {architecture.device_levels[level]:g}", justify="right")
    for name, hardware in HARDWARE.items():
        model = EnergyModel(hardware)
        cells = []
        for level in ends:
            computing = model.compute_j(device_work(architecture, level))
            sending = model.exchange_j(architecture.sent_shape(level).packed_bytes)
            cells.append(f"{1e6 * computing:.0f} + {1e6 * sending:.0f}")
        table.add_row(name, *cells)
    return table


def sizes_of(architecture: Architecture) -> Sizes:
    """Return the sizes of a bundle with random weights, which are close to those of a
    trained one.
    """
    with torch.random.fork_rng():
        torch.manual_seed(1)
        noise = noise_set(architecture)
        net = BinaryNet(architecture).eval()
        # (N, H, W, C) -> (N, C, H, W)
        net.calibrate(torch.from_numpy(noise.images).permute(0, 3, 1, 2))
        bundle = export(net, "untrained", noise, noise, noise, {}, ContextSettings(steps=1))
    return Sizes(len(serialise(bundle)), len(serialise(bundle, DEVICE_GROUPS)))


def noise_set(architecture: Architecture) -> Dataset:
    """Return pictures of noise, labelled with every class in turn."""
    shape = architecture.input_shape
    generator = np.random.default_rng(1)
    size = (PICTURES, shape.height, shape.width, shape.channels)
    images = generator.integers(0, 256, size, dtype=np.uint8)
    names = tuple(str(label) for label in range(architecture.classes))
    labels = np.arange(PICTURES, dtype=np.int64) % architecture.classes
    return Dataset("noise", images, labels, names, "")


def main() -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, None)
