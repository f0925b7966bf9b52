"""A fleet on one machine, with real broker, cloud server and controller and simulated devices.

    python -m tests.benchmarks.fleet --json

5,000 devices connect, get new settings all at once and one by one, and send telemetry at a high
rate. Then 100 devices work while broker, controller and fleet are killed with -9 in turn, and every
sequence number is audited. ``--full`` repeats the changes and measures longer.

Further parts are measured one at a time by ``--part``: ``rollouts`` (simulated), ``deaths``
(roll-outs in which a program is killed), ``store`` (on the file of ``--store``, which is filled if
it does not exist), ``page`` (the dashboard with 5,000 devices) and ``fuzz``. Their targets are for
``--full``; without it they are short, and the checks have no value.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import uvloop

from cloud.fleet.recorder import Recorder
from cloud.fleet.running import recording
from cloud.telemetry.store import Store
from shared.fleet.messages import DeviceSettings
from tests.attacks.fuzz_fleet import fuzz
from tests.benchmarks import fleet_store
from tests.benchmarks.fleet_page import page_cpu
from tests.benchmarks.fleet_rollouts import killed_wrong
from tests.benchmarks.harness import Check, Report, show, table
from tests.benchmarks.rollouts import rates
from tests.support.broker import Mosquitto, mosquitto
from tests.support.fleets import Audit, audit, process, start, stop, wait_for_line
from tests.support.processes import Server, start_server

DEVICES = 5000
AUDITED = 100
IDLE = "{rate_per_s: 0, telemetry_s: 30}"
BUSY = "{rate_per_s: 2, telemetry_s: 0.2}"
MB = 2**20
PARTS = ("rollouts", "deaths", "store", "page", "fuzz")


def say(text: str) -> None:
    """Print progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def percentile(values: list[float], share: float) -> float:
    """Return the value below which ``share`` of the values lie."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def words(
    broker: Mosquitto, server: Server, folder: Path, devices: int, settings: str
) -> list[str]:
    """Return the command line of a simulated fleet."""
    scenario = folder / f"scenario-{devices}.yaml"
    scenario.write_text(f"name: benchmark\nduration: 1h\nsettings: {settings}\n")
    given = ["--devices", str(devices), "--broker", broker.url, "--server", server.address]
    ledger = folder / f"ledger-{devices}"
    return [*given, "--ledger", str(ledger), "--scenario", str(scenario)]


async def all_reported(recorder: Recorder, count: int, limit_s: float = 90.0) -> None:
    """Wait until ``count`` devices are online and have reported."""
    devices = recorder.state.devices
    async with asyncio.timeout(limit_s):
        while sum(d.online and d.reported is not None for d in devices.values()) < count:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


async def converge(recorder: Recorder, names: list[str], settings: DeviceSettings) -> list[float]:
    """Set all of ``names`` at once; return for each the seconds from desired to reported."""
    began_s = time.perf_counter()
    took: list[float] = []
    devices = [recorder.state.device(name) for name in names]
    futures = recorder.client.desire(devices, lambda _: settings)
    for future in futures.values():
        future.add_done_callback(lambda _: took.append(time.perf_counter() - began_s))
    await asyncio.wait_for(asyncio.gather(*futures.values()), 120)
    return took


async def crowd(
    broker: Mosquitto, server: Server, folder: Path, count: int, full: bool
) -> dict[str, Any]:
    """Measure everything that needs many devices."""
    found: dict[str, Any] = {}
    alone = words(broker, server, folder, 1, IDLE)
    with process("device.fleet", *alone, "--fleet", "alone") as small:
        wait_for_line(small, "1 of 1")
        base = psutil.Process(small.pid).memory_info().rss
    async with (
        Store(str(folder / "crowd")) as store,
        recording(broker.broker, "default", store) as recorder,
    ):
        began_s = time.perf_counter()
        flags = words(broker, server, folder, count, IDLE)
        with process("device.fleet", *flags, log=folder / "log") as fleet:
            await all_reported(recorder, count)
            found["connect_s"] = time.perf_counter() - began_s
            say(f"{count} devices connected after {found['connect_s']:.1f} s")
            memory = psutil.Process(fleet.pid).memory_info().rss
            found["mb_per_device"] = (memory - base) / MB / count
            names = sorted(recorder.state.devices)
            rounds = 5 if full else 3
            found["converge_p99_s"] = sorted(
                [
                    percentile(
                        await converge(
                            recorder, names, DeviceSettings(f"{number / 10 + 0.1}", None, 0.0, 30.0)
                        ),
                        0.99,
                    )
                    for number in range(rounds)
                ]
            )[rounds // 2]
            say(f"all converge in {found['converge_p99_s']:.2f} s")
            single = []
            for name in names[:: 10 if full else 25]:
                single += await converge(recorder, [name], DeviceSettings("1.0", None, 0.0, 30.0))
            found["converge_one_p99_s"] = percentile(single, 0.99)
            say(f"one converges in {found['converge_one_p99_s']:.3f} s")
            await converge(recorder, names, DeviceSettings("1.0", None, 0.0, 1.0))
            await asyncio.sleep(2)
            kept, began_s = recorder.counts.stored, time.perf_counter()
            await asyncio.sleep(30 if full else 8)
            seconds = time.perf_counter() - began_s
            found["telemetry_per_s"] = (recorder.counts.stored - kept) / seconds
            say(f"{found['telemetry_per_s']:.0f} messages of telemetry a second")
    return found


async def killed(broker: Mosquitto, server: Server, folder: Path) -> Audit:
    """Kill broker, controller and fleet, one after the other, and audit the telemetry."""
    say("killing broker, controller and fleet")
    flags = words(broker, server, folder, AUDITED, BUSY)
    scenario = flags[-1]
    kept = ["--fleet", "audit", "--broker", broker.url, "--store", str(folder / "audit")]
    flags += ["--fleet", "audit"]
    with (folder / "log").open("a") as log:
        fleet = start("device.fleet", flags, log.fileno())
        first = start("cloud.fleet", ["run", scenario, *kept], log.fileno())
        try:
            wait_for_line(fleet, f"{AUDITED} of {AUDITED}")
            wait_for_line(first, "benchmark")
            await asyncio.sleep(2)
            broker.kill()
            await asyncio.sleep(0.5)
            broker.start()
            await asyncio.sleep(2)
            stop(first, signal.SIGKILL)
            await asyncio.sleep(1)
            stop(fleet, signal.SIGKILL)
            fleet = start("device.fleet", flags, log.fileno())
            async with (
                Store(str(folder / "audit")) as store,
                recording(broker.broker, "audit", store) as recorder,
            ):
                await all_reported(recorder, AUDITED)
                await asyncio.sleep(1)
                names = sorted(recorder.state.devices)
                await converge(
                    recorder, names, DeviceSettings(rate_per_s=0.0, telemetry_s=86_400.0)
                )
                # Gaps are filled once a second; messages that have not come by then are lost.
                end_s = time.monotonic() + 15
                devices = recorder.state.devices
                while time.monotonic() < end_s:
                    await asyncio.sleep(0.5)
                    if all(d.sequences.hole() is None for d in devices.values()):
                        break
                # An agent that ends sends its last samples in a further numbered message.
                await asyncio.to_thread(stop, fleet)
                end_s = time.monotonic() + 15
                while time.monotonic() < end_s and any(d.online for d in devices.values()):  # noqa: ASYNC110 - what is waited for has no event
                    await asyncio.sleep(0.5)
                await asyncio.sleep(1)
        finally:
            stop(first)
            stop(fleet)
    return audit(folder / f"ledger-{AUDITED}", folder / "audit")


def further(part: str, full: bool, store: Path) -> Report:
    """Measure one of the other parts."""
    found: dict[str, Any] = {}
    checks: list[Check] = []
    if part == "rollouts":
        found = rates(1000 if full else 20)
        for name, target in (("false_stop", 0.02), ("missed", 0.05)):
            value = found[name] if full else None
            checks.append(Check(f"rollout_{name}", value, "share", target, "lower"))
    elif part == "deaths":
        wrong, unended = killed_wrong(20 if full else 2)
        found |= {"rollout_killed_wrong": wrong, "rollout_killed_unended": unended}
        checks.append(Check("rollout_killed_wrong", wrong if full else None, "devices", 0, "lower"))
    elif part == "store":
        if not store.exists():
            messages = fleet_store.MESSAGES if full else 200_000
            found["filled_s"] = fleet_store.fill(store, fleet_store.DEVICES, messages)
        found |= fleet_store.measure(store)
        slowest = max(value for name, value in found.items() if "report" in name)
        for name, value in (("store_report_s", slowest), ("store_start_s", found["store_start_s"])):
            checks.append(Check(name, value if full else None, "s", 1, "lower"))
    elif part == "page":
        found["dashboard_5000_cpu"] = page_cpu()
        value = found["dashboard_5000_cpu"]
        checks.append(Check("dashboard_5000_cpu", value, "cores", 0.15, "lower"))
    else:
        with tempfile.TemporaryDirectory() as folder:
            outcome = fuzz(Path(folder), 100_000 if full else 2000, 1)
        found["fuzz_dead"] = len({*outcome.dead, *outcome.stale, *outcome.tracebacks})
        checks.append(Check("fuzz_dead", found["fuzz_dead"] if full else None, "programs", 0,
                            "lower"))  # fmt: skip
    rows = [(name, f"{value:.4g}") for name, value in found.items()]
    return Report(found, checks, [table(f"fleet: {part}", ("", "measured"), rows)])


def run(count: int, full: bool) -> Report:
    """Measure connecting, changes, telemetry and kills."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        streams = str(2 * count)
        server = stack.enter_context(start_server("--max-streams-per-client", streams))
        broker = stack.enter_context(mosquitto(folder / "broker"))
        found = uvloop.run(crowd(broker, server, folder, count, full))
        left = uvloop.run(killed(broker, server, folder))
    found["audited"] = left.numbered
    whole = found if count == DEVICES else {}  # the targets are for 5,000 devices
    checks = [
        Check("connect_5000_s", whole.get("connect_s"), "s", 30, "lower"),
        Check("converge_p99_s", whole.get("converge_p99_s"), "s", 2, "lower"),
        Check("converge_one_p99_s", whole.get("converge_one_p99_s"), "s", 0.15, "lower"),
        Check("telemetry_per_s", whole.get("telemetry_per_s"), "1/s", 4000, "higher"),
        Check("telemetry_lost", left.lost, "messages", 0, "lower"),
        Check("telemetry_duplicate", left.duplicate, "messages", 0, "lower"),
        Check("mb_per_device", found["mb_per_device"], "MB", 0.2, "lower"),
    ]
    rows = [(name, f"{value:.4g}") for name, value in found.items()]
    title = f"{count} devices; {left.numbered} messages audited over three kills"
    return Report(found, checks, [table(title, ("", "measured"), rows)])


def main() -> None:
    """Measure, and print tables and perhaps a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--full", action="store_true", help="more rounds; takes minutes")
    parser.add_argument("--devices", type=int, default=DEVICES, help="fewer than the targets name")
    parser.add_argument("--part", choices=("fleet", *PARTS), help="by default fleet")
    parser.add_argument("--store", type=Path, default=Path("fleet-benchmark.sqlite"))
    options = parser.parse_args()
    began_s = time.monotonic()
    report = Report()
    parts = ("fleet", *PARTS) if options.full else ("fleet",)
    for part in (options.part,) if options.part else parts:
        made = (
            run(options.devices, options.full)
            if part == "fleet"
            else further(part, options.full, options.store)
        )
        report.results |= made.results
        report.checks += made.checks
        report.tables += made.tables
    show("fleet", report, time.monotonic() - began_s, None, options.json)


if __name__ == "__main__":
    main()
