"""A deployment on one machine: broker, two servers, controller and fleet, bad networks between."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.plan import Event, Fault
from tests.chaos.programs import Program, kept, module
from tests.chaos.relay import FAIR, BadNetwork, Weather, bad_network
from tests.support.broker import mosquitto
from tests.support.clouds import free_port
from tests.support.devices import SERVED

DEVICES = 6
FLEET = "chaos"
SCENARIO = "name: chaos\nduration: 10h\nsettings: {rate_per_s: 1, telemetry_s: 0.5}\n"
PROGRAMS = ("broker", "cloud-1", "cloud-2", "controller", "fleet")
NETWORKS = ("to broker", "to cloud-1", "to cloud-2")


@dataclass(frozen=True)
class Deployment:
    """Everything that can break, by name, and where the fleet keeps its numbers."""

    folder: Path
    programs: dict[str, Program]
    networks: dict[str, BadNetwork]

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def broker(self) -> str:
        """The broker's address behind its network."""
        return f"mqtt://{self.networks['to broker'].address}"

    @property
    def servers(self) -> list[str]:
        """The servers' addresses behind their networks."""
        return [self.networks[f"to {name}"].address for name in ("cloud-1", "cloud-2")]

    async def happen(self, event: Event) -> None:
        """Let ``event`` happen, to its end."""
        if event.fault is Fault.KILL:
            await self.programs[event.target].kill(event.seconds)
            return
        network = self.networks[event.target]
        match event.fault:
            case Fault.CUT:
                network.cut()
            case Fault.HUSH:
                await network.hush(event.seconds)
            case Fault.DELAY:
                await _spell(network, Weather(delay_s=event.amount), event.seconds)
            case Fault.NARROW:
                await _spell(network, Weather(bytes_per_s=event.amount), event.seconds)

    async def healed(self) -> None:
        """Wait until every program is up again."""
        for program in self.programs.values():
            await asyncio.wait_for(program.up.wait(), 60)


async def _spell(network: BadNetwork, weather: Weather, seconds: float) -> None:
    network.weather = weather
    await asyncio.sleep(seconds)
    if network.weather is weather:
        network.weather = FAIR


@asynccontextmanager
async def deployment(folder: Path) -> AsyncIterator[Deployment]:
    """The deployment, up and running, while the block does."""
    scenario = folder / "chaos.yaml"
    scenario.write_text(SCENARIO)
    with mosquitto(folder / "broker") as made:
        made.kill(signal.SIGTERM)  # only its settings are wanted
    broker_port = made.port
    ports = {"cloud-1": free_port(), "cloud-2": free_port()}
    async with AsyncExitStack() as stack:
        networks = {
            "to broker": await stack.enter_async_context(
                bad_network(f"127.0.0.1:{broker_port}"),
            )
        }
        for name, port in ports.items():
            network = bad_network(f"127.0.0.1:{port}")
            networks[f"to {name}"] = await stack.enter_async_context(network)
        running = Deployment(folder, {}, networks)
        common = ("--broker", running.broker, "--fleet", FLEET)
        fleet = ("--devices", str(DEVICES), "--server", running.servers[0])
        kept_here = ("--ledger", str(running.ledger), "--scenario", str(scenario))
        log = folder / "log"
        play = ("run", str(scenario), "--speed", "1", "--store", str(running.store))
        broker = Program(["mosquitto", "-c", str(made.settings)], log, port=broker_port)
        servers = {
            name: Program(server_words(port), log, "listening on") for name, port in ports.items()
        }
        simulated = module("device.fleet", *common, *fleet, *kept_here)
        programs = {
            "broker": broker,
            **servers,
            "fleet": Program(simulated, log, f"of {DEVICES}"),
            "controller": Program(module("cloud.fleet", *play, *common), log, "chaos"),
        }
        for name, program in programs.items():
            await stack.enter_async_context(kept(program))
            running.programs[name] = program
        yield running


def server_words(port: int) -> list[str]:
    """The command line of a server."""
    return module("cloud.server", "--host", "127.0.0.1", "--port", str(port), *SERVED)
