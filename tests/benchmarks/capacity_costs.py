"""Measures on real programs what one sample, one connection and one message of telemetry cost.

CPU time is that of the process, so that other work on the machine is not counted, although it does
have an effect through the caches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from cloud.fleet.running import recording
from cloud.telemetry.store import Store
from device.split.pipeline import ExitSettings, Pipeline
from shared.data.sample import sample_digits
from shared.fractions import level_for
from shared.model.bundle import Bundle
from shared.packed import DeviceHalf
from tests.benchmarks.crowd import Crowd
from tests.benchmarks.load import Load
from tests.benchmarks.serving import FRACTION, started
from tests.benchmarks.traffic import messages_of, stream
from tests.support.broker import mosquitto
from tests.support.clouds import until
from tests.support.fleets import process, wait_for_line
from tests.support.proxies import haproxy

OPEN = ("--max-streams-per-client", "1000000", "--max-connections-per-client", "1000000")
SERVER = ("cloud.server", "--host", "127.0.0.1", "--port", "0", "--cloud-fraction", "1.0", *OPEN)
CONNECTIONS = 1000
SPARSE = 300.0  # requests a second, so few that each comes alone
SECONDS = 3.0
FLEET = 200
TELEMETRY_S = 0.2


class Meter:
    """Measures the CPU time and memory that a process has used since ``reset``."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.reset()

    def reset(self) -> None:
        """Measure from now on."""
        self._cpu_s, self._bytes = self._now()
        self._began_s = time.perf_counter()

    @property
    def cpu_us(self) -> float:
        """Return the microseconds of CPU time."""
        return 1e6 * (self._now()[0] - self._cpu_s)

    @property
    def size_bytes(self) -> float:
        """Return the growth of resident memory."""
        return self._now()[1] - self._bytes

    @property
    def use(self) -> float:
        """Return the used share of one core."""
        return 1e-6 * self.cpu_us / (time.perf_counter() - self._began_s)

    def _now(self) -> tuple[float, float]:
        times = self._process.cpu_times()
        return times.user + times.system, float(self._process.memory_info().rss)


@dataclass(frozen=True)
class ServerCosts:
    """See ``Measured``; ``load`` has the answers at full load."""

    request_us: float
    sparse_us: float
    connect_us: float
    connection_bytes: float
    load: Load


@dataclass(frozen=True)
class ProxyCosts:
    """See ``Measured``."""

    proxied_us: float
    proxy_us: float
    proxy_connection_bytes: float


@dataclass(frozen=True)
class TelemetryCosts:
    """See ``Measured``; ``messages`` is the number of counted messages."""

    message_us: float
    keeping_us: float
    broker_connection_bytes: float
    messages: int


@contextmanager
def serving(cpu: int | None, *flags: str) -> Iterator[tuple[str, Meter]]:
    """Run a server on ``cpu``; yields its address and a meter of its process."""
    with started(cpu, *SERVER, *flags) as (running, address):
        yield address, Meter(running.pid)


def direct(address: str, meter: Meter, bodies: Sequence[bytes]) -> ServerCosts:
    """Measure with devices that are connected to the server directly."""
    with Crowd(address, 50, bodies):
        pass  # the first connections cost more than later ones and are not counted
    meter.reset()
    with Crowd(address, CONNECTIONS, bodies) as crowd:
        connect_us, size_bytes = meter.cpu_us, meter.size_bytes
        crowd.busy(0.5)
        meter.reset()
        load = crowd.busy(SECONDS)
        request_us = meter.cpu_us / load.answered
        meter.reset()
        sparse = crowd.steady(SPARSE / CONNECTIONS, SECONDS)
        sparse_us = meter.cpu_us / sparse.answered
    each = (connect_us / CONNECTIONS, size_bytes / CONNECTIONS)
    return ServerCosts(request_us, sparse_us, *each, load)


def proxied(address: str, meter: Meter, bodies: Sequence[bytes], folder: Path) -> ProxyCosts:
    """Measure with devices that are connected to the proxy, which has few connections for all."""
    with haproxy(folder, [address]) as proxy:
        own = Meter(proxy.process.pid)
        with Crowd(proxy.address, CONNECTIONS, bodies) as crowd:
            size_bytes = own.size_bytes
            crowd.busy(0.5)
            for one in (meter, own):
                one.reset()
            load = crowd.busy(SECONDS)
            return ProxyCosts(
                meter.cpu_us / load.answered, own.cpu_us / load.answered, size_bytes / CONNECTIONS
            )


async def telemetry(server: str, folder: Path) -> TelemetryCosts:
    """Measure what the broker, and the controller with its store, spend on a message of a fleet."""
    scenario = folder / "busy.yaml"
    scenario.write_text(
        f"name: busy\nduration: 1h\nsettings: {{rate_per_s: 0, telemetry_s: {TELEMETRY_S}}}\n"
    )
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto(folder / "broker"))
        assert broker.process is not None
        spent = Meter(broker.process.pid)
        words = ["--devices", str(FLEET), "--broker", broker.url, "--server", server]
        async with (
            Store(str(folder / "store")) as store,
            recording(broker.broker, "default", store) as recorder,
        ):
            flags = [*words, "--scenario", str(scenario), "--ledger", str(folder / "ledger")]
            fleet = process("device.fleet", *flags)
            await asyncio.to_thread(wait_for_line, stack.enter_context(fleet), f"{FLEET} of")
            size_bytes = spent.size_bytes
            devices = recorder.state.devices
            await until(lambda: sum(one.online for one in devices.values()) == FLEET, 60)
            keeping = Meter(psutil.Process().pid)
            spent.reset()
            before = recorder.counts.stored
            await asyncio.sleep(SECONDS)
            messages = recorder.counts.stored - before
            return TelemetryCosts(
                spent.cpu_us / messages, keeping.cpu_us / messages, size_bytes / FLEET, messages
            )


async def bytes_of(server: str, bundle: Bundle) -> tuple[float, float]:
    """Return the bytes on the socket for one sample on an open stream, up and down."""
    level = level_for(FRACTION, bundle.architecture.device_levels)
    images, _ = sample_digits()
    features = DeviceHalf(bundle).run(images[..., None], level)
    found = await stream(server, messages_of(bundle, features, level, 1, named=False), 1)
    return found.up, found.down


def leave_share(bundle: Bundle) -> float:
    """Return the share of the sample digits that the exit head does not answer on the device."""
    level = level_for(FRACTION, bundle.architecture.device_levels)
    pipeline = Pipeline(bundle, ExitSettings())
    least = pipeline.least_margin(level, None)
    images, _ = sample_digits()
    answers = [pipeline.answer(pipeline.run(image[..., None], level), level) for image in images]
    return sum(answer.margin < least for answer in answers) / len(images)
