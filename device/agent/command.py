"""``python -m device.agent``: run one real device of a fleet, or install it as a service."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from device.agent.agent import Agent
from device.agent.classifier import Classifier
from device.agent.flags import AgentLine, config_words, given_names, line_of, parse, parser
from device.agent.identity import AgentIdentity
from device.agent.installation import CONFIG, STATE, UNITS, install
from device.agent.ledger import Ledger
from device.agent.models import FleetModels
from device.agent.pace import Pace
from device.agent.service import notify, report, set_up_logging
from device.agent.supply import Supply, Wanted, supply_for
from device.energy.power import MachinePower
from device.split.client import SplitClient
from device.split.settings import ModelSettings, SpoolSettings
from device.split.steering import battery_of
from device.transport.backoff import Backoff
from shared.bundles import bundle_path
from shared.command import run_command, say
from shared.energy.hardware import find_hardware
from shared.energy.model import EnergyModel
from shared.errors import TaperError, UsageError
from shared.model.bundle import DEVICE_GROUPS, Bundle, read_bundle

_log = logging.getLogger(__name__)


def until_signal(work: asyncio.Task[None]) -> None:
    """Cancel ``work`` on Ctrl-C or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)


async def first_model(line: AgentLine, models: FleetModels) -> Bundle:
    """Return the model to start with; waits without limit if it comes from the server."""
    model = line.client.model
    if not model.from_server:
        return read_bundle(bundle_path(model.name), DEVICE_GROUPS)
    backoff, said = Backoff(0.5, 60.0), ""
    while True:
        try:
            return await models(model.name)
        except TaperError as error:
            if str(error) != said:
                said = str(error)
                _log.warning("no model yet: %s", said)
        await asyncio.sleep(backoff.next_s())


def usable(settings: SpoolSettings | None) -> SpoolSettings | None:
    """Return ``settings`` if the spool's file can be used; else log why and return None."""
    if settings is None:
        return None
    from device.split.spool import Spool

    try:
        Spool(settings.path, settings.limit).close()
    except UsageError as error:
        _log.warning("%s; going on without it", error)
        return None
    return settings


def supply_of(line: AgentLine, bundle: Bundle) -> Supply:
    """Return the pictures that the flags name, as inputs of ``bundle``."""
    labels = None
    if line.labels is not None:
        from shared.images.labels import read_labels

        labels = read_labels(line.labels, f"--labels: {line.labels}")
    meta = bundle.metadata
    return supply_for(
        Wanted(
            line.sources,
            meta.architecture.input_shape,
            line.changes.apply(meta.steps),
            meta.class_names,
            labels,
            line.live,
        )
    )


async def work(line: AgentLine, pace: Pace | None = None) -> None:
    """Run the device until cancelled; ``pace`` replaces the machine's clock."""
    settings, pace = line.client, pace or Pace()
    models = FleetModels(line.model_folder, settings.servers, settings.security)
    bundle = await first_model(line, models)
    # The agent chooses the source of models, not each of its clients.
    settings = replace(settings, model=ModelSettings(bundle.metadata.name))
    settings = replace(settings, spool=usable(settings.spool))
    power = MachinePower(battery_of(settings))
    identity = AgentIdentity(
        line.fleet, line.device, line.groups, find_hardware(settings.hardware).name
    )

    def open_client(using: Bundle) -> SplitClient:
        return SplitClient(
            settings, bundle=using, battery=power, on_late=lambda answer: classifier.late(answer)
        )

    energy = EnergyModel(find_hardware(settings.hardware))
    supply = supply_of(line, bundle)
    classifier = Classifier(bundle, open_client, models, energy, power, supply, pace, line.defaults)
    async with Ledger(line.ledger) as ledger, classifier:
        agent = Agent(identity, line.find_broker(), classifier, ledger, pace, line.find_broker)
        watched = asyncio.create_task(
            report(lambda: classifier.is_working, lambda: agent.status), name="systemd"
        )
        try:
            await agent.run()
        finally:
            notify("STOPPING=1")
            watched.cancel()
            supply.close()


async def run(line: AgentLine) -> None:
    """Run ``work`` until Ctrl-C or SIGTERM."""
    task = asyncio.create_task(work(line), name="agent")
    until_signal(task)
    await task


def install_agent(arguments: Sequence[str]) -> None:
    """Write the flags to a config file, and a systemd unit that runs the agent with it."""
    made = parser()
    group = made.add_argument_group("installation")
    group.add_argument("--config-file", type=Path, default=CONFIG, help=f"default: {CONFIG}")
    group.add_argument("--unit-folder", type=Path, default=UNITS, help=f"default: {UNITS}")
    group.add_argument("--force", action="store_true", help="replace existing files")
    given = made.parse_args(list(arguments))
    line_of(given)
    values: dict[str, object] = {
        "ledger": f"{STATE}/agent.sqlite",
        "model-folder": f"{STATE}/models",
    }
    own = {"config", "config_file", "unit_folder", "force"}
    names = given_names(arguments)
    for name, value in vars(given).items():
        flag = name.replace("_", "-")
        if name not in own and f"--{flag}" in names:
            values[flag] = _absolute(value)
    config, unit = install(values, given.config_file, given.unit_folder, given.force)
    config_words(config, set())  # checks that it can be read
    sys.stdout.write(
        f"wrote {config} and {unit}\n"
        "start it with: systemctl daemon-reload && systemctl enable --now taper-agent\n"
        "see it with: systemctl status taper-agent, journalctl -u taper-agent\n"
    )


def _absolute(value: object) -> object:
    """Make a path in a value absolute, since the service runs in another folder."""
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, list):
        return [str(Path(one).absolute()) if Path(one).exists() else one for one in value]
    return value


def start(arguments: Sequence[str]) -> None:
    """Run the agent, or install it."""
    if arguments[:1] == ["install"]:
        install_agent(arguments[1:])
        return
    line = parse(arguments)
    set_up_logging()
    try:
        asyncio.run(run(line))
    except asyncio.CancelledError:
        say("stopped")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_command(lambda words: start(list(sys.argv[1:] if words is None else words)), arguments)
