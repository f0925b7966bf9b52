"""The client's command line: its flags, their limits, and the settings made from them.

Unlike the other commands it uses argparse: typer imports pydantic, which would take a third of the
time and a quarter of the memory that a device may spend until its first answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from device.cli.groups import (
    DEFAULTS,
    add_battery,
    add_cloud,
    add_live,
    add_model,
    add_output,
    add_pictures,
    add_security,
)
from device.live.sources import LiveSettings, is_endless, is_live
from device.policy.simple import AUTO
from device.split.settings import ClientSettings, ModelSettings, SpoolSettings
from device.transport.channel import Security
from shared.command import Parser
from shared.durations import parse_duration
from shared.errors import UsageError
from shared.model.preprocessing import Changes

DESCRIPTION = """\
Classify images with a network that is split between this device and a server.

The device computes the lower layers at a fraction of their channels and sends
the resulting bits, a few dozen bytes; the server finishes. If the model has an
exit head, the device answers confident samples itself, and all of them while
the cloud is away. Images of another size are scaled to the network's, and a
note says so.
"""
EPILOG = """\
Exit status: 0 every sample was answered; 1 the server refused a request; 2 a
flag or an input is wrong; 3 the server could not be reached or went away.
"""
# PEM files: authorities to trust, the own certificate, its key.
Certificates = tuple[Path | None, Path | None, Path | None]


@dataclass(frozen=True)
class CommandLine:
    """The values of the command line: settings of the client, and its input and output.

    sources       values of ``--input``; none: the shipped sample
    publish       address of a broker with a topic to which answers are published
    certificates  files for that broker, if it uses TLS
    """

    settings: ClientSettings
    sources: tuple[str, ...]
    labels: Path | None
    output: str
    in_flight: int
    explain: bool
    changes: Changes
    live: LiveSettings
    publish: str | None
    certificates: Certificates

    @property
    def endless(self) -> bool:
        """Whether the run goes on until it is stopped."""
        return bool(self.live.watch) or any(is_endless(source) for source in self.sources)


class Help(argparse.RawDescriptionHelpFormatter):
    """Writes "Usage: " with a capital letter, like typer in the other commands."""

    def add_usage(
        self,
        usage: str | None,
        actions: object,
        groups: object,
        prefix: str | None = None,
    ) -> None:
        """Write the usage line."""
        super().add_usage(usage, actions, groups, prefix or "Usage: ")  # type: ignore[arg-type]


def parse(arguments: Sequence[str] | None = None) -> CommandLine:
    """Parse the command line; ``UsageError`` names a wrong flag."""
    given = _parser().parse_args(arguments)
    certificates = (given.ca, given.cert, given.key)
    if not given.tls and (given.publish or "").startswith("mqtts://"):
        given.ca = given.cert = given.key = None  # the flags apply to the broker only
    line = CommandLine(
        client_settings(given),
        tuple(given.input or ()),
        given.labels,
        given.output,
        given.in_flight,
        given.explain,
        Changes(given.invert, given.crop, given.resize),
        live_settings(given),
        given.publish,
        certificates,
    )
    if line.endless and line.output == "json":
        raise UsageError("--output json: prints once, at the end; take jsonl for endless input")
    return line


def client_settings(given: argparse.Namespace) -> ClientSettings:
    """Make the settings from flags of ``device.cli.groups``; ``UsageError`` names a wrong one."""
    goals = (given.lifetime, given.min_accuracy, given.max_bytes)
    if any(goal is not None for goal in goals) and given.fraction != AUTO:
        raise UsageError("--lifetime, --min-accuracy and --max-bytes: need --fraction auto")
    folder = DEFAULTS.model.folder if given.model_folder is None else given.model_folder
    return ClientSettings(
        servers=tuple(given.server or DEFAULTS.servers),
        model=ModelSettings(given.model, given.model_from_server, folder),
        fraction=given.fraction,
        battery_percent=given.battery,
        battery_command=given.battery_command,
        battery_file=given.battery_file,
        battery_plugin=given.battery_plugin,
        lifetime_s=None if given.lifetime is None else parse_duration(given.lifetime, "--lifetime"),
        min_accuracy=given.min_accuracy,
        max_bytes=given.max_bytes,
        hardware=given.hardware,
        capacity_j=None if given.capacity_wh is None else given.capacity_wh * 3600,
        exit_threshold=given.exit_threshold,
        use_exit=given.exit,
        top_k=getattr(given, "top_k", 0),
        wait_s=given.wait,
        timeout_s=given.timeout,
        max_wait_s=given.max_wait_ms / 1000,
        start_offline=given.start_offline,
        security=Security(
            given.tls, given.ca, given.cert, given.key, given.token, given.server_name
        ),
        spool=None if given.spool is None else SpoolSettings(given.spool, given.spool_max),
    )


def live_settings(given: argparse.Namespace) -> LiveSettings:
    """Return the settings of live inputs; ``UsageError`` if they are set without a live input."""
    every_s = None if given.every is None else parse_duration(given.every, "--every")
    watch = tuple(given.watch or ())
    if not watch and not any(is_live(source) for source in given.input or ()):
        for flag, value in (("--every", every_s), ("--on-change", given.on_change)):
            if value:
                raise UsageError(
                    f"{flag}: needs --watch, or --input with a camera, a video, an address or -"
                )
    return LiveSettings(watch, every_s, given.on_change)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        usage="%(prog)s [OPTIONS]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=Help,
    )
    add_pictures(parser.add_argument_group("what to classify"))
    add_output(parser.add_argument_group("output"))
    add_live(parser.add_argument_group("live input"))
    add_model(parser.add_argument_group("model and exits"))
    add_battery(parser.add_argument_group("battery"))
    add_cloud(parser.add_argument_group("the cloud"))
    add_security(parser.add_argument_group("security"))
    return parser
