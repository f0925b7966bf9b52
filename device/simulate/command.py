"""``python -m device.simulate``: compare policies over simulated days on real images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from device.energy.recharge import DAY_S, Schedule, parse_recharge
from device.energy.simulated_battery import Cell, SimulatedBattery
from device.images.reading import read_images, read_labels, sample_images
from device.policy.auto import AutoPolicy, Goal
from device.policy.operating_points import Conditions, level_tables, with_payloads
from device.policy.simple import AUTO, Policy, make_policy
from device.simulate.figure import draw
from device.simulate.plans import plan_table
from device.simulate.results import LevelResults, measure
from device.simulate.simulation import MeasuredDevice, Outcome, Workload, dominates, simulate
from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.durations import parse_duration
from shared.energy.hardware import HARDWARE, MCU_BLE, WATT_HOUR_J, Hardware, find_hardware
from shared.energy.model import EnergyModel
from shared.errors import UsageError
from shared.model.bundle import Bundle, read_bundle
from shared.model.exits import read_calibration
from shared.model.looks import ask_table, plans_on_test
from shared.typer_app import run_app

DEFAULT_POLICIES = "auto, linear, step, fixed:1.0, fixed:0.5, fixed:0.3"
FULL = "fixed:1.0"
WITH_EXIT = "+exit"
app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)

Expected = Literal["schedule", "history"]


@dataclass(frozen=True)
class Setup:
    """The conditions under which policies are compared."""

    hardware: Hardware
    workload: Workload
    cell: Cell
    schedule: Schedule
    goal: Goal
    max_wait_s: float


@app.command()
def run(
    days: Annotated[float, typer.Option(min=0.01, max=3650, help="Length of the simulation.")] = 7,
    policy: Annotated[
        str,
        typer.Option(
            help="Comma-separated: **auto**, **linear**, **step**, **fixed:F**, **fixed:F:G** with "
            "a second look at G where the cloud asks. With **+exit** behind it a simple policy "
            "uses the exit head at the bundle's threshold."
        ),
    ] = DEFAULT_POLICIES,
    model: Annotated[
        str, typer.Option(help="Shipped bundle by name, or a bundle file.")
    ] = DEFAULT_MODEL,
    hardware: Annotated[str, typer.Option(help=f"One of {', '.join(HARDWARE)}.")] = MCU_BLE.name,
    rate: Annotated[
        float, typer.Option(min=1e-6, max=10_000, help="Samples to classify per second.")
    ] = 5.0,
    capacity_wh: Annotated[
        float | None,
        typer.Option(
            min=1e-6, help="Energy of the battery; default: a usual one for the hardware."
        ),
    ] = None,
    recharge: Annotated[
        str,
        typer.Option(help="**none**, **solar:PEAK_MW** or **mains:MW@HOUR+HOURS**."),
    ] = "none",
    forecast: Annotated[
        Expected,
        typer.Option(help="Charging that auto expects: by the schedule or by the days before."),
    ] = "schedule",
    telemetry: Annotated[
        str | None,
        typer.Option(help="Time between messages of telemetry, e.g. 10m; default: none."),
    ] = None,
    lifetime: Annotated[
        str | None, typer.Option(help="Goal of auto, e.g. 7d; default: the length.")
    ] = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Goal of auto instead: never below this, e.g. 0.985.")
    ] = None,
    max_bytes: Annotated[
        float | None, typer.Option(help="Limit of auto: mean bytes of a sample, e.g. 30.")
    ] = None,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, help="How long auto may delay samples to send them together.")
    ] = 0.0,
    images: Annotated[
        str | None, typer.Option("--input", help="Images (IDX, .npy); default: 200 test digits.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Labels of the images.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="File to which all numbers are written as JSON.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="File for a figure (.svg, .png, .pdf).")
    ] = None,
    explain: Annotated[bool, typer.Option(help="Print every decision of auto.")] = False,
    plans: Annotated[
        bool, typer.Option(help="Print the model's plans of looks and their energy, and end.")
    ] = False,
) -> None:
    """Compare policies over days of a device's life.

    Every image goes once through the real runtime at every level. The days are then simulated from
    these results, with the energy model of the hardware and a simulated battery.
    """
    names = [name.strip() for name in policy.split(",") if name.strip()]
    if not names:
        raise UsageError("--policy: is empty; give e.g. auto,linear,fixed:1.0")
    chosen = find_hardware(hardware)
    seconds = parse_duration(lifetime, "--lifetime") if lifetime else days * DAY_S
    goal = Goal(
        None if min_accuracy is not None and not lifetime else seconds, min_accuracy, max_bytes
    )
    capacity_j = chosen.battery_j if capacity_wh is None else capacity_wh * WATT_HOUR_J
    setup = Setup(
        hardware=chosen,
        workload=Workload(
            days,
            rate,
            telemetry_s=parse_duration(telemetry, "--telemetry") if telemetry else None,
            by_history=forecast == "history",
        ),
        cell=Cell(capacity_j),
        schedule=parse_recharge(recharge),
        goal=goal,
        max_wait_s=max_wait_ms / 1000,
    )
    bundle = read_bundle(bundle_path(model))
    if plans:
        Console().print(plan_table(bundle, rate))
        return
    pictures, known = read_test_set(bundle, images, labels)
    results = measure(bundle, pictures, known)
    outcomes = compare(bundle, results, setup, names)
    if output is not None:
        write_json(output, document(bundle, setup, len(pictures), outcomes))
    if figure is not None:
        title = f"{days:g} days, {chosen.name}, {rate:g} samples/s, {capacity_j / WATT_HOUR_J:g} Wh"
        draw(outcomes, title, figure)
    console = Console()
    if explain:
        for line in (line for outcome in outcomes for line in outcome.explained):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(table(outcomes))


def read_test_set(
    bundle: Bundle, source: str | None, labels: Path | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Read images and labels, by default the shipped sample."""
    shape = bundle.architecture.input_shape
    if source is None:
        sample = sample_images(shape)
        if sample.labels is None or bundle.architecture.classes != 10:
            raise UsageError("--input: the shipped digits do not fit this model; give test images")
        return sample.images, sample.labels
    pictures = read_images(source, shape, bundle.metadata.steps)
    if labels is None:
        raise UsageError("--labels: are needed with --input")
    return pictures.images, read_labels(labels, len(pictures.names))


def compare(
    bundle: Bundle, results: Sequence[LevelResults], setup: Setup, names: Sequence[str]
) -> list[Outcome]:
    """Simulate the workload once for each policy in ``names``."""
    tables = with_payloads(
        level_tables(bundle),
        [float(level.payload_bytes.mean()) for level in results],
        [level.batched_bytes for level in results],
    )
    model = EnergyModel(setup.hardware)
    calibration = read_calibration(bundle)
    levels = bundle.architecture.device_levels

    def plan() -> Policy:
        conditions = Conditions(max_wait_s=setup.max_wait_s)
        return AutoPolicy(tables, model, setup.goal, conditions, plans=plans_on_test(bundle))

    outcomes = []
    for name in names:
        exits = calibration.threshold if calibration and name.endswith(WITH_EXIT) else None
        policy = make_policy(name.removesuffix(WITH_EXIT), levels, "--policy", plan)
        battery = SimulatedBattery(setup.cell, setup.schedule)
        device = MeasuredDevice(tables, results, model, exits, ask_table(bundle))
        outcomes.append(simulate(name, policy, device, battery, setup.workload))
    return outcomes


def verdict(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Compare auto with the others: life gained, accuracy lost, and policies that beat it."""
    by_name = {outcome.policy: outcome for outcome in outcomes}
    auto, full = by_name.get(AUTO), by_name.get(FULL)
    if auto is None:
        return {}
    found: dict[str, Any] = {
        "auto_dominated_by": [o.policy for o in outcomes if o is not auto and dominates(o, auto)]
    }
    if full is not None:
        found["auto_life_vs_full"] = auto.life_days / max(full.life_days, 1e-9)
        found["auto_accuracy_loss"] = 100 * (full.accuracy - auto.accuracy)
    return found


def document(
    bundle: Bundle, setup: Setup, images: int, outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    """Return all settings and outcomes as a JSON value."""
    return {
        "model": bundle.metadata.name,
        "version": bundle.metadata.version,
        "images": images,
        "setup": {**asdict(setup), "schedule": repr(setup.schedule)},
        "outcomes": [asdict(outcome) for outcome in outcomes],
        "verdict": verdict(outcomes),
    }


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write ``value`` as JSON; NaN, which is the accuracy of no samples, becomes null."""
    for outcome in value["outcomes"]:
        for moment in outcome["moments"]:
            if moment["accuracy"] != moment["accuracy"]:  # NaN
                moment["accuracy"] = None
    try:
        path.write_text(json.dumps(value, allow_nan=False) + "\n")
    except OSError as error:
        raise UsageError(f"--output: {path} cannot be written ({error.strerror})") from None


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return a table with a row for each policy."""
    made = Table(box=box.SIMPLE_HEAVY, pad_edge=False, padding=(0, 1, 0, 0))
    headings = (
        "policy",
        "days",
        "right",
        "right of\noffered",
        "on\ndevice",
        "looks",
        "mean\nd",
    )
    for heading in (*headings, "mJ", "bytes", "turns"):
        made.add_column(heading, justify="left" if heading == "policy" else "right", no_wrap=True)
    for outcome in outcomes:
        made.add_row(
            outcome.policy,
            f"{outcome.life_days:.2f}",
            f"{outcome.accuracy:.2%}",
            f"{outcome.delivered:.1%}",
            f"{outcome.on_device:.0%}",
            f"{outcome.looks:.2f}",
            f"{outcome.mean_fraction:.2f}",
            f"{outcome.energy_mj:.3f}",
            f"{outcome.payload_bytes:.1f}",
            str(outcome.changes),
        )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_app(app, arguments)
