"""The client's command line: its flags, their limits, and the settings made from them.

It uses argparse, unlike the other commands: typer imports pydantic, which alone would take a third
of the time and a quarter of the memory that a device may spend until its first answer.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from device.live.sources import LiveSettings, is_endless, is_live
from device.policy.simple import AUTO
from device.split.settings import ClientSettings, ModelSettings, SpoolSettings
from device.transport.channel import Security
from shared.bundles import DEFAULT_MODEL
from shared.command import Parser
from shared.durations import parse_duration
from shared.errors import UsageError
from shared.model.preprocessing import RESIZES, Changes

TOKEN_VARIABLE = "TAPER_TOKEN"  # noqa: S105 - the name of a variable
DEFAULTS = ClientSettings()
OUTPUTS = ("table", "json", "jsonl")
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


@dataclass(frozen=True)
class CommandLine:
    """The values of the command line: settings of the client, and its input and output.

    sources   as for ``--input``; none: the shipped sample
    publish   address of a broker and a topic for the answers
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

    @property
    def endless(self) -> bool:
        """Whether pictures come until the run is stopped."""
        return bool(self.live.watch) or any(is_endless(source) for source in self.sources)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Writes "Usage: " with a capital, as typer does in the other commands."""

    def add_usage(
        self,
        usage: str | None,
        actions: object,
        groups: object,
        prefix: str | None = None,
    ) -> None:
        super().add_usage(usage, actions, groups, prefix or "Usage: ")  # type: ignore[arg-type]


def parse(arguments: Sequence[str] | None = None) -> CommandLine:
    """Read the command line; ``UsageError`` names the flag that is wrong."""
    given = _parser().parse_args(arguments)
    if (given.lifetime is not None or given.min_accuracy is not None) and given.fraction != AUTO:
        raise UsageError("--lifetime and --min-accuracy: need --fraction auto")
    folder = DEFAULTS.model.folder if given.model_folder is None else given.model_folder
    settings = ClientSettings(
        servers=tuple(given.server or DEFAULTS.servers),
        model=ModelSettings(given.model, given.model_from_server, folder),
        fraction=given.fraction,
        battery_percent=given.battery,
        lifetime_s=None if given.lifetime is None else parse_duration(given.lifetime, "--lifetime"),
        min_accuracy=given.min_accuracy,
        hardware=given.hardware,
        capacity_j=None if given.capacity_wh is None else given.capacity_wh * 3600,
        exit_threshold=given.exit_threshold,
        use_exit=given.exit,
        top_k=given.top_k,
        wait_s=given.wait,
        timeout_s=given.timeout,
        max_wait_s=given.max_wait_ms / 1000,
        start_offline=given.start_offline,
        security=Security(
            given.tls, given.ca, given.cert, given.key, given.token, given.server_name
        ),
        spool=None if given.spool is None else SpoolSettings(given.spool, given.spool_max),
    )
    line = CommandLine(
        settings,
        tuple(given.input or ()),
        given.labels,
        given.output,
        given.in_flight,
        given.explain,
        Changes(given.invert, given.crop, given.resize),
        _live(given),
        given.publish,
    )
    if line.endless and line.output == "json":
        raise UsageError("--output json: prints once, at the end; take jsonl for endless input")
    return line


def _live(given: argparse.Namespace) -> LiveSettings:
    """Settings of live inputs; ``UsageError`` if there is none that they could be for."""
    every_s = None if given.every is None else parse_duration(given.every, "--every")
    watch = tuple(given.watch or ())
    if not watch and not any(is_live(source) for source in given.input or ()):
        for flag, value in (("--every", every_s), ("--on-change", given.on_change)):
            if value:
                raise UsageError(
                    f"{flag}: needs --watch, or --input with a camera, a video, an address or -"
                )
    return LiveSettings(watch, every_s, given.on_change)


def variable(name: str) -> str | None:
    """An environment variable without trailing newlines; None if it is unset or empty."""
    return os.environ.get(name, "").rstrip("\r\n") or None


def number(
    low: float, high: float = math.inf, kind: Callable[[str], float] = float
) -> Callable[[str], float]:
    """A function that reads a number from ``low`` to ``high``, for ``type=`` of an argument."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high and math.isfinite(value)):
            upper = "" if high == math.inf else f" to {high:g}"
            allowed = f"give {low:g}{upper or ' or more'}"
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed; {allowed}")
        return value

    return read


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        usage="%(prog)s [OPTIONS]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_Help,
    )
    _add_input(parser.add_argument_group("what to classify"))
    _add_live(parser.add_argument_group("live input"))
    _add_model(parser.add_argument_group("model and exits"))
    _add_battery(parser.add_argument_group("battery"))
    _add_cloud(parser.add_argument_group("the cloud"))
    _add_security(parser.add_argument_group("security"))
    return parser


def _add_input(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--input",
        action="append",
        metavar="SOURCE",
        help="may be repeated: image file, folder with its subfolders, IDX file (.gz too), .npy, "
        ".npz, or - for images on standard input; live: camera or camera:N, a video file, the "
        "address of an MJPEG or RTSP stream (default: the shipped sample of 200 MNIST test digits)",
    )
    group.add_argument(
        "--invert", action="store_true", help="dark and light change places in every picture"
    )
    group.add_argument(
        "--crop",
        type=_region,
        metavar="LEFT,TOP,WIDTH,HEIGHT",
        help="look at this part of every picture, in its pixels (default: the model's)",
    )
    group.add_argument(
        "--resize",
        choices=RESIZES,
        help="how the whole picture becomes the model's size (default: the model's way)",
    )
    group.add_argument(
        "--labels",
        type=Path,
        help="true labels of --input, for the accuracy: IDX or .npy in order, or a table (CSV, "
        "text) of file name and label (default: the names of class folders)",
    )
    group.add_argument("--output", choices=OUTPUTS, default=OUTPUTS[0], help="what to print")
    group.add_argument(
        "--publish",
        metavar="ADDRESS",
        help="send every answer to mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC (or mqtts://) too",
    )
    group.add_argument(
        "--top-k",
        type=number(0, 100, int),
        default=0,
        metavar="N",
        help="ask for this many labels with probabilities",
    )
    group.add_argument(
        "--in-flight",
        type=number(1, 1000, int),
        default=1,
        metavar="N",
        help="samples on their way at the same time",
    )


def _add_live(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--watch",
        action="append",
        metavar="FOLDER",
        help="may be repeated: every picture that is written or moved there, from now on",
    )
    group.add_argument(
        "--every", metavar="TIME", help="of live input, answer one picture in this time, e.g. 2s"
    )
    group.add_argument(
        "--on-change",
        action="store_true",
        help="of live input, answer only pictures that differ from the last one answered",
    )


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model", default=DEFAULT_MODEL, help="shipped bundle by name, or a bundle file"
    )
    group.add_argument(
        "--model-from-server",
        action="store_true",
        help="fetch the device's part of --model from the server, and follow its updates",
    )
    group.add_argument(
        "--model-folder",
        type=Path,
        help="where fetched models are kept (default: ~/.cache/taper/models)",
    )
    group.add_argument(
        "--exit-threshold",
        type=float,
        metavar="CONFIDENCE",
        help="confidence from which a sample is answered on the device (default: the model's)",
    )
    group.add_argument(
        "--exit",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="answer confident samples on the device",
    )


def _add_battery(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fraction",
        default=AUTO,
        help="share of the channels that the device computes and sends: a number above 0 and up "
        "to 1, or auto, linear, step; auto plans for --lifetime or --min-accuracy, and without "
        "either follows the battery",
    )
    group.add_argument("--lifetime", metavar="TIME", help="goal of auto: last this long, e.g. 7d")
    group.add_argument(
        "--min-accuracy",
        type=float,
        metavar="SHARE",
        help="goal of auto: stay at least this accurate, e.g. 0.985",
    )
    group.add_argument(
        "--battery", type=float, metavar="PERCENT", help="pretend that it holds this much"
    )
    group.add_argument(
        "--hardware",
        type=_hardware,
        default=DEFAULTS.hardware,
        help=f"whose energy constants auto plans with (default: {DEFAULTS.hardware})",
    )
    group.add_argument(
        "--capacity-wh", type=number(1e-6), metavar="WH", help="energy of the full battery"
    )
    group.add_argument("--explain", action="store_true", help="say why it works as it does")


def _add_cloud(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--server",
        action="append",
        metavar="HOST:PORT",
        help="may be repeated: the next one is used when one fails "
        f"(default: {DEFAULTS.servers[0]})",
    )
    group.add_argument(
        "--wait",
        type=number(0),
        default=DEFAULTS.wait_s,
        metavar="SECONDS",
        help="for the server to come up",
    )
    group.add_argument(
        "--timeout",
        type=number(0.001),
        default=DEFAULTS.timeout_s,
        metavar="SECONDS",
        help="for one answer, retries included",
    )
    group.add_argument(
        "--max-wait-ms",
        type=number(0, 60_000),
        default=0.0,
        metavar="MS",
        help="how long a sample may wait for others to share a packet",
    )
    group.add_argument(
        "--spool",
        type=Path,
        metavar="FILE",
        help="keep samples in this file until the cloud has answered them",
    )
    group.add_argument(
        "--spool-max",
        type=number(1, 10**9, int),
        default=10_000,
        metavar="N",
        help="samples in the spool; when it is full, new ones are not kept",
    )
    group.add_argument(
        "--start-offline",
        action="store_true",
        help="start although no server can be reached; --spool implies it",
    )


def _add_security(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--tls", action="store_true", help="connect with TLS")
    group.add_argument(
        "--ca", type=Path, help="certificates to trust (PEM; default: those of the system)"
    )
    group.add_argument("--cert", type=Path, help="the device's certificate (PEM)")
    group.add_argument("--key", type=Path, help="the key of --cert (PEM)")
    group.add_argument(
        "--server-name",
        metavar="NAME",
        help="expect this name in the server's certificate (default: that of --server)",
    )
    group.add_argument(
        "--token",
        default=variable(TOKEN_VARIABLE),
        help=f"token for the server; better given as the variable {TOKEN_VARIABLE}",
    )


def _region(text: str) -> tuple[int, int, int, int]:
    try:
        left, top, width, height = (int(part) for part in text.split(","))
    except ValueError:
        left = top = width = height = -1
    if min(left, top) < 0 or min(width, height) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed; give LEFT,TOP,WIDTH,HEIGHT in whole pixels"
        )
    return left, top, width, height


def _hardware(name: str) -> str:
    # Here, since only a client that plans needs the energy constants.
    from shared.energy.hardware import find_hardware

    return find_hardware(name).name
