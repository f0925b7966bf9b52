"""The deployment under load while its containers are restarted, killed, paused and cut off."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from device import SampleResult
from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.fractions import level_for
from shared.model.bundle import read_bundle
from shared.packed import CloudHalf, DeviceHalf
from tests.containers.engine import EngineError
from tests.containers.stack import PROXY, Stack, query
from tests.support.devices import FRACTION, MODEL, Tally, load, progress
from tests.support.fleets import Audit, audit

SAMPLES = 10_000
AWAY_S = 3.0
PAUSE_S = 0.01  # of a device between two samples: containers start on the same cores
BETWEEN = 300  # samples answered before and after each event, at least
QUIET = ("rate_per_s=0", "telemetry_s=86400")
TRIES = 10
SETTLE_S = 3.0


@dataclass(frozen=True)
class Outcome:
    """What the trial came to. ``moved``: a server came back with another address."""

    events: tuple[str, ...]
    samples: int
    failed: int
    failures: tuple[str, ...]
    slowest_s: float
    moved: bool
    telemetry: Audit


@cache
def labels(cloud_fraction: float) -> tuple[int, ...]:
    """The label that the network gives to each digit of the sample where the cloud computes so."""
    bundle = read_bundle(bundle_path(MODEL))
    levels = bundle.architecture.device_levels, bundle.architecture.cloud_levels
    images, _ = sample_digits()
    level = level_for(float(FRACTION), levels[0])
    features = DeviceHalf(bundle).run(images[..., None], level)
    logits = CloudHalf(bundle).run(features, level, level_for(cloud_fraction, levels[1]))
    return tuple(int(label) for label in logits.argmax(axis=1))


class AnyWidth(Tally):
    """A tally of answers by servers that narrow themselves under load."""

    def take(self, number: int, result: SampleResult) -> None:
        """Count the answer to sample ``number``."""
        self.answers[number] += 1
        wanted = labels(result.cloud_fraction)[result.index]
        self.wrong += result.label != wanted or result.source != "cloud"
        self.latencies_s.append(result.latency_ms / 1000)


async def trial(stack: Stack) -> Outcome:
    """Let everything happen under load, answer at least ``SAMPLES``, and audit."""
    told = []
    moved = False
    async with load(PROXY, devices=6, pause_s=PAUSE_S, tally=AnyWidth()) as tally:
        await progress(tally, BETWEEN)
        for name, event in events(stack):
            before = stack.address("cloud-2")
            await event()
            await recovered(stack)
            await progress(tally, BETWEEN)
            moved = moved or before != stack.address("cloud-2")
            told.append(f"{name}: {tally.asked} samples, {len(tally.failures)} failed")
        await progress(tally, max(SAMPLES - tally.answered, 0), 300)
    failed = sum(count != 1 for count in tally.answers) + tally.wrong
    telemetry = await asyncio.to_thread(settled, stack)
    return Outcome(
        tuple(told), tally.asked, failed, tuple(tally.failures[:5]), max(tally.latencies_s),
        moved, telemetry,
    )  # fmt: skip


Event = Callable[[], Awaitable[None]]


def events(stack: Stack) -> list[tuple[str, Event]]:
    """What happens, one after the other."""

    async def both(first: Callable[[], object], second: Callable[[], object]) -> None:
        await asyncio.to_thread(first)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(second)

    def docker(command: str, service: str, *flags: str) -> Callable[[], object]:
        return lambda: stack.docker(command, service, *flags)

    def killed(service: str) -> Event:
        return lambda: both(docker("kill", service), docker("start", service))

    def paused(service: str) -> Event:
        return lambda: both(lambda: pause(stack, service), docker("unpause", service))

    def cut_off(service: str) -> Event:
        return lambda: both(lambda: stack.leave(service), lambda: stack.join(service))

    async def restarted() -> None:
        await asyncio.to_thread(docker("restart", "cloud-1", "--time", "15"))

    async def moved() -> None:
        await asyncio.to_thread(moved_away, stack, "cloud-2")

    return [
        ("a server is restarted", restarted),
        ("a server is killed", killed("cloud-2")),
        ("a server is paused", paused("cloud-1")),
        ("a server is cut off the network", cut_off("cloud-2")),
        ("a server comes back with another address", moved),
        ("the broker is cut off the network", cut_off("broker")),
        ("the broker is killed", killed("broker")),
        ("the controller is killed", killed("recorder")),
        ("the fleet is killed", killed("fleet")),
    ]


def pause(stack: Stack, service: str) -> None:
    """``docker pause``, again while a busy kernel cannot freeze all processes at once."""
    for left in reversed(range(TRIES)):
        try:
            stack.docker("pause", service)
        except EngineError as error:
            if "unable to freeze" not in str(error) or not left:
                raise
            time.sleep(0.2)
        else:
            return


def moved_away(stack: Stack, service: str) -> None:
    """Take a service off its network, give its address to another container, put it back."""
    before = stack.address(service)
    stack.leave(service)
    words = ["run", "--detach", "--rm", "--network", "taper_inside", "--entrypoint", "sleep"]
    others = []
    try:
        for _ in range(20):
            other = stack.engine.docker(*words, "taper/device:0.1.0", "600")
            others.append(other)
            told = json.loads(stack.engine.docker("inspect", other))[0]
            (network,) = told["NetworkSettings"]["Networks"].values()
            if network["IPAddress"] == before:
                break
        stack.join(service)
    finally:
        for other in others:
            stack.engine.docker("rm", "--force", other)


async def recovered(stack: Stack) -> None:
    """Wait until all services are healthy and the proxy sends streams to both servers."""
    await asyncio.to_thread(stack.wait)
    end_s = time.monotonic() + 60
    while True:
        up = await asyncio.to_thread(query, 'haproxy_server_status{proxy="cloud",state="UP"} == 1')
        if len(up) == 2:
            return
        if time.monotonic() > end_s:
            raise EngineError(f"of the servers only these are up behind the proxy: {up}")
        await asyncio.sleep(0.5)


def settled(stack: Stack) -> Audit:
    """Let the fleet fall silent and the controller mend its holes; then compare their books.

    The fleet is ended for a look at its book. If something is missing still, it is started again to
    be asked for it; what is missing after some looks is lost.
    """
    stack.docker("stop", "player")
    silence(stack)
    found = Audit(0, 0, 0, 0)
    for _ in range(TRIES):
        time.sleep(SETTLE_S)
        with ended(stack, "fleet"):
            time.sleep(1)
            with ended(stack, "recorder"):
                found = audit(copied(stack, "fleet", "ledger.sqlite"),
                              copied(stack, "recorder", "fleet.sqlite"))  # fmt: skip
        if not found.lost:
            break
        stack.wait()
    stack.docker("start", "player")
    return found


@contextmanager
def ended(stack: Stack, service: str) -> Iterator[None]:
    """A service is stopped while the block runs."""
    stack.docker("stop", service, "--time", "20")
    try:
        yield
    finally:
        stack.docker("start", service)


def copied(stack: Stack, service: str, name: str) -> Path:
    """A database out of the volume of a service that is stopped."""
    target = stack.folder / service
    target.mkdir(exist_ok=True)
    for path in target.rglob("*"):
        if path.is_file():
            path.unlink()
    stack.engine.docker("cp", f"{stack.container(service)}:/data/.", str(target))
    return target / name


def silence(stack: Stack) -> None:
    """Set every device to say nothing more."""
    ca = stack.folder / "broker" / "ca.crt"
    words = ["python", "-m", "cloud.fleet", "set", "all", *QUIET, "--broker", "mqtts://broker:8883"]
    said = ""
    for _ in range(TRIES):
        try:
            said = stack.compose(
                "run", "--rm", "-T", "--no-deps", "player", *words, "--ca", str(ca)
            )
        except EngineError as error:
            said = str(error)
        if "50 of 50 devices" in said:
            return
        time.sleep(1)
    raise EngineError(f"the fleet could not be set: {said}")
