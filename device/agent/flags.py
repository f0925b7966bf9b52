"""The command line and the config file of ``python -m device.agent``."""

from __future__ import annotations

import argparse
import re
import socket
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from device.agent.supply import check
from device.cli.flags import Help, client_settings, live_settings
from device.cli.groups import (
    Group,
    add_battery,
    add_cloud,
    add_live,
    add_model,
    add_pictures,
    add_security,
    number,
    variable,
)
from device.live.sources import LiveSettings
from device.split.settings import ClientSettings
from shared.command import Parser
from shared.durations import parse_duration
from shared.errors import UsageError
from shared.fleet.broker import Broker, parse_broker
from shared.fleet.messages import DeviceSettings, check_name
from shared.model.preprocessing import Changes

PASSWORD_VARIABLE = "TAPER_BROKER_PASSWORD"  # noqa: S105 - the name of a variable
DESCRIPTION = """\
Run this machine as a device of a fleet, until Ctrl-C or SIGTERM.

It classifies pictures at a rate, sends telemetry over MQTT, and obeys what an
operator desires. A server or a broker that is away, a full disk or a camera
that is unplugged do not stop it.

`install` as the first word writes the flags to a config file, and a systemd
unit that runs the agent with it.
"""


@dataclass(frozen=True)
class AgentLine:
    """The values of the command line.

    find_broker  returns the broker with its certificates, read again for each connection
    model        name or file of the model to start with
    from_server  whether that model is fetched from the server
    defaults     settings in force until an operator desires others
    """

    fleet: str
    device: str
    groups: tuple[str, ...]
    find_broker: Callable[[], Broker]
    client: ClientSettings
    sources: tuple[str, ...]
    labels: Path | None
    changes: Changes
    live: LiveSettings
    defaults: DeviceSettings
    ledger: Path
    model_folder: Path


def parse(arguments: Sequence[str]) -> AgentLine:
    """Parse the flags and the config file that they name; ``UsageError`` names what is wrong."""
    given = parser().parse_args(list(arguments))
    if given.config is not None:
        words = config_words(given.config, given_names(arguments))
        given = parser().parse_args([*words, *arguments])
    return line_of(given)


def line_of(given: argparse.Namespace) -> AgentLine:
    """Convert parsed flags; ``UsageError`` names a wrong one."""
    check(given.input or ())
    secured = given.tls or (given.broker or "").startswith("mqtts")
    if not secured and (given.ca or given.cert or given.key):
        raise UsageError("--ca, --cert and --key: need --tls, or --broker mqtts://HOST:PORT")
    plain = argparse.Namespace(**vars(given))
    if not given.tls:
        plain.ca = plain.cert = plain.key = None  # the flags apply to the broker only
    settings = replace(client_settings(plain), start_offline=True)
    model = replace(settings.model, folder=given.model_folder)
    live = replace(live_settings(given), patient=True)
    find_broker = broker_of(given)
    find_broker()  # raises now if the flags are wrong
    return AgentLine(
        checked(given.fleet, "--fleet"),
        checked(given.device, "--device"),
        tuple(checked(one, "--group") for one in given.group or ()),
        find_broker,
        replace(settings, model=model),
        tuple(given.input or ()),
        given.labels,
        Changes(given.invert, given.crop, given.resize),
        live,
        DeviceSettings(
            fraction=given.fraction,
            rate_per_s=given.rate,
            telemetry_s=parse_duration(given.telemetry, "--telemetry"),
        ),
        given.ledger,
        given.model_folder,
    )


def broker_of(given: argparse.Namespace) -> Callable[[], Broker]:
    """Return a function that makes the broker, reading its files anew at each call."""
    own = (given.broker_ca, given.broker_cert, given.broker_key)
    files = own if any(own) else (given.ca, given.cert, given.key)
    if not given.broker.startswith("mqtts") and not any(own):
        files = (None, None, None)
    password = given.password or variable(PASSWORD_VARIABLE)
    username = None if password is None else f"{given.fleet}/{given.device}"

    def find_broker() -> Broker:
        return parse_broker(given.broker, username, password, *files)

    return find_broker


def checked(value: str, flag: str) -> str:
    """Return ``value`` if it is a valid name; else raise ``UsageError`` that names ``flag``."""
    try:
        return check_name(value, flag)
    except ValueError as error:
        raise UsageError(str(error)) from None


def default_name() -> str:
    """Return the host's name with hyphens for characters that fleets do not allow."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", socket.gethostname()).strip("-_")[:64]
    return name or "device"


def config_words(path: Path, overridden: set[str]) -> list[str]:
    """Convert a TOML file to flags: ``server = "edge:50051"`` becomes ``--server edge:50051``.

    A list repeats a flag, ``true`` sets it, ``false`` gives ``--no-FLAG`` if that exists. Flags in
    ``overridden`` are left out. ``UsageError`` names the file and the key.
    """
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--config: {path} cannot be read ({reason})") from None
    known = {word for action in parser()._actions for word in action.option_strings}
    words = []
    for key, value in values.items():
        flag = f"--{key.replace('_', '-')}"
        if flag not in known or key in ("config", "help", "version"):
            raise UsageError(f"--config: {path}: {key!r} is unknown; keys are flags of --help")
        if flag not in overridden:
            words += words_of(flag, value, known, path)
    return words


def words_of(flag: str, value: Any, known: set[str], path: Path) -> list[str]:
    """Convert a setting to words of a command line; ``UsageError`` for tables and dates."""
    if isinstance(value, bool):
        negative = f"--no-{flag[2:]}"
        if value:
            return [flag]
        return [negative] if negative in known else []
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return [word for one in value for word in (f"{flag}={one}",)]
    if isinstance(value, str | int | float):
        return [f"{flag}={value}"]
    raise UsageError(f"--config: {path}: {flag[2:]}: give a word, a number, true or a list")


def given_names(arguments: Sequence[str]) -> set[str]:
    """Return the names of the flags in ``arguments``."""
    names = {word.partition("=")[0] for word in arguments if word.startswith("--")}
    return names | {f"--{name[5:]}" for name in names if name.startswith("--no-")}


def parser() -> Parser:
    """Return the parser with the agent's own flags and those it shares with the client."""
    made = Parser(
        usage="%(prog)s [install] [OPTIONS]", description=DESCRIPTION, formatter_class=Help
    )
    made.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML with these flags, without their dashes"
    )
    _add_device(made.add_argument_group("the device"))
    _add_broker(made.add_argument_group("the broker"))
    add_pictures(made.add_argument_group("what to classify"))
    add_live(made.add_argument_group("live input"))
    add_model(made.add_argument_group("model and exits"))
    add_battery(made.add_argument_group("battery"))
    add_cloud(made.add_argument_group("the cloud"))
    add_security(made.add_argument_group("security"))
    made.set_defaults(model_folder=Path("taper-models"))
    return made


def _add_device(group: Group) -> None:
    group.add_argument(
        "--device",
        default=default_name(),
        metavar="NAME",
        help="name of this device (default: the host's)",
    )
    group.add_argument(
        "--fleet", default="default", metavar="NAME", help="name of the fleet to which it belongs"
    )
    group.add_argument("--group", action="append", metavar="NAME", help="may be repeated")
    group.add_argument(
        "--rate",
        type=number(0, 1000),
        default=1.0,
        metavar="PER_S",
        help="pictures a second, until an operator desires another rate (default: 1)",
    )
    group.add_argument(
        "--telemetry",
        default="10s",
        metavar="TIME",
        help="time between messages of telemetry, until an operator desires another (default: 10s)",
    )
    group.add_argument(
        "--ledger",
        type=Path,
        default=Path("taper-agent.sqlite"),
        metavar="FILE",
        help="file of unconfirmed telemetry and sequence numbers (default: taper-agent.sqlite)",
    )


def _add_broker(group: Group) -> None:
    group.add_argument(
        "--broker",
        default="mqtt://localhost:1883",
        metavar="ADDRESS",
        help="mqtt://HOST:PORT or mqtts://HOST:PORT (default: mqtt://localhost:1883)",
    )
    group.add_argument(
        "--password",
        help=f"password for the broker; better given as the variable {PASSWORD_VARIABLE}",
    )
    for name, what in (
        ("ca", "certificates to trust (PEM)"),
        ("cert", "the device's certificate (PEM)"),
        ("key", "the key of --broker-cert (PEM)"),
    ):
        group.add_argument(
            f"--broker-{name}", type=Path, help=f"{what}, of the broker (default: --{name})"
        )
