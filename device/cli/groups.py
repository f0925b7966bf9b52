"""Groups of command-line flags that the client and the agent share."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from device.policy.simple import AUTO
from device.split.settings import ClientSettings
from shared.bundles import DEFAULT_MODEL
from shared.model.preprocessing import RESIZES

Group: TypeAlias = argparse._ArgumentGroup
TOKEN_VARIABLE = "TAPER_TOKEN"  # noqa: S105 - the name of a variable
DEFAULTS = ClientSettings()
OUTPUTS = ("table", "json", "jsonl")


def variable(name: str) -> str | None:
    """Return an environment variable without trailing newlines; None if unset or empty."""
    return os.environ.get(name, "").rstrip("\r\n") or None


def number(
    low: float, high: float = math.inf, kind: Callable[[str], float] = float
) -> Callable[[str], float]:
    """Return a parser of numbers from ``low`` to ``high``, for argparse's ``type=``."""

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


def add_pictures(group: Group) -> None:
    """Add the flags for pictures, their preparation and their labels."""
    group.add_argument(
        "--input",
        action="append",
        metavar="SOURCE",
        help="may be repeated: image file, folder with its subfolders, IDX file (.gz too), .npy, "
        ".npz, or - for images on standard input; live: camera or camera:N, a video file, the "
        "address of an MJPEG or RTSP stream (default: the shipped sample of 200 MNIST test digits)",
    )
    group.add_argument(
        "--invert", action="store_true", help="invert dark and light in every picture"
    )
    group.add_argument(
        "--crop",
        type=_region,
        metavar="LEFT,TOP,WIDTH,HEIGHT",
        help="use this part of every picture, in its pixels (default: the model's)",
    )
    group.add_argument(
        "--resize",
        choices=RESIZES,
        help="how the whole picture is converted to the model's size (default: the model's way)",
    )
    group.add_argument(
        "--labels",
        type=Path,
        help="true labels of --input, for the accuracy: IDX or .npy in order, or a table (CSV, "
        "text) of file name and label (default: the names of class folders)",
    )


def add_output(group: Group) -> None:
    """Add the flags for output and publishing, and the number of samples in flight."""
    group.add_argument("--output", choices=OUTPUTS, default=OUTPUTS[0], help="what to print")
    group.add_argument(
        "--publish",
        metavar="ADDRESS",
        help="send every answer to mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC too, or mqtts:// with "
        "--ca, --cert and --key",
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
        help="number of samples under way at the same time",
    )


def add_live(group: Group) -> None:
    """Add the flags that choose among the pictures of live sources."""
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


def add_model(group: Group) -> None:
    """Add the flags for the model and its exits."""
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
        help="least confidence at which a sample is answered on the device (default: the model's)",
    )
    group.add_argument(
        "--exit",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="answer confident samples on the device",
    )


def add_battery(group: Group) -> None:
    """Add the flags for the battery and for the goals of planning."""
    group.add_argument(
        "--fraction",
        default=AUTO,
        help="share of the channels that the device computes and sends: a number above 0 and up "
        "to 1, two of them (0.125:1) for a second look where the cloud asks for it, or auto, "
        "linear, step; auto plans for --lifetime, --min-accuracy or --max-bytes, and without "
        "them follows the battery",
    )
    group.add_argument("--lifetime", metavar="TIME", help="goal of auto: last this long, e.g. 7d")
    group.add_argument(
        "--min-accuracy",
        type=float,
        metavar="SHARE",
        help="goal of auto: stay at least this accurate, e.g. 0.985",
    )
    group.add_argument(
        "--max-bytes",
        type=float,
        metavar="BYTES",
        help="limit of auto: mean bytes of a sample, e.g. 30",
    )
    group.add_argument(
        "--battery", type=float, metavar="PERCENT", help="assume that the battery holds this much"
    )
    group.add_argument(
        "--battery-command",
        metavar="COMMAND",
        help="a program that prints the charge: 57, 57%% charging, or "
        '{"percent": 57, "plugged": true}',
    )
    group.add_argument(
        "--battery-file", type=Path, metavar="FILE", help="a file that holds the same"
    )
    group.add_argument(
        "--battery-plugin",
        metavar="NAME",
        help="a battery of another package, an entry point of taper.batteries",
    )
    group.add_argument(
        "--hardware",
        type=hardware_name,
        default=DEFAULTS.hardware,
        help=f"whose energy constants auto plans with (default: {DEFAULTS.hardware})",
    )
    group.add_argument(
        "--capacity-wh", type=number(1e-6), metavar="WH", help="energy of the full battery"
    )
    group.add_argument("--explain", action="store_true", help="print the reason for each decision")


def add_cloud(group: Group) -> None:
    """Add the flags for servers, time limits and the spool."""
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
        help="how long to wait for the server to come up",
    )
    group.add_argument(
        "--timeout",
        type=number(0.001),
        default=DEFAULTS.timeout_s,
        metavar="SECONDS",
        help="time limit for one answer, including retries",
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
        help="most samples in the spool; when it is full, new ones are not stored",
    )
    group.add_argument(
        "--start-offline",
        action="store_true",
        help="start even if no server can be reached; --spool implies it",
    )


def add_security(group: Group) -> None:
    """Add the flags for TLS and the servers' token."""
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


def hardware_name(name: str) -> str:
    """Return ``name`` if energy constants are known for this hardware."""
    # Imported here, since only clients that plan need the energy constants.
    from shared.energy.hardware import find_hardware

    return find_hardware(name).name
