"""``python -m cloud.fleet enrol``: make a one-time code with which a browser becomes a device."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from cloud.fleet.flags import Fleet, parse_fleet
from cloud.fleet.running import print_error, say
from shared.atomic_file import replacing
from shared.durations import parse_duration
from shared.errors import UsageError
from shared.fleet.codes import code_file, new_code
from shared.fleet.messages import check_name

PASSWORDS, PID, WAITING = "passwords", "mosquitto.pid", "enrolments"


def enrol(
    device: Annotated[str, typer.Argument(help="Name of the new device.")],
    folder: Annotated[Path, typer.Option(help="The broker's folder, which **provision.py** made.")],
    fleet: Fleet = "default",
    valid: Annotated[str, typer.Option(help="How long the code can be used: **10m**.")] = "10m",
) -> None:
    """Make a broker user for a new device, and print a one-time code that fetches its password."""
    name = f"{parse_fleet(fleet)}/{_device(device)}"
    seconds = parse_duration(valid, "--valid")
    password = secrets.token_urlsafe(18)
    add_user(folder / PASSWORDS, name, password)
    reload_broker(folder / PID)
    waiting = folder / WAITING
    waiting.mkdir(mode=0o700, exist_ok=True)
    drop_old(waiting)
    code = new_code()
    content = {"fleet": fleet, "device": device, "user": name, "password": password}
    write_private(
        code_file(waiting, code), json.dumps({**content, "until_unix_s": time.time() + seconds})
    )
    say(f"{code}\n{name} joins with this code once, within {valid}")


def add_user(path: Path, name: str, password: str) -> None:
    """Add a user to a password file of Mosquitto; an existing user gets the new password."""
    if not path.is_file():
        raise UsageError(f"--folder: {path} is missing; deploy/mosquitto/provision.py makes it")
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch, "fresh")
        write_private(fresh, f"{name}:{password}\n")
        try:
            subprocess.run(["mosquitto_passwd", "-U", str(fresh)], check=True, capture_output=True)
        except FileNotFoundError:
            raise UsageError(
                "mosquitto_passwd is not installed; scripts/system-deps broker"
            ) from None
        others = [line for line in path.read_text().splitlines() if not line.startswith(f"{name}:")]
        write_private(path, "\n".join([*others, fresh.read_text().strip(), ""]))


def reload_broker(path: Path) -> None:
    """Make the broker whose process id is in ``path`` read its passwords again, if it runs."""
    try:
        os.kill(int(path.read_text()), signal.SIGHUP)
    except (OSError, ValueError):
        print_error("no broker was found to reload its passwords; if one runs, send it SIGHUP")


def drop_old(waiting: Path) -> None:
    """Remove expired codes from the folder ``waiting``."""
    for path in waiting.glob("*.json"):
        if json.loads(path.read_bytes())["until_unix_s"] < time.time():
            path.unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a file atomically that only its owner may read.

    If root writes it, the file gets the owner of its folder.
    """
    with replacing(path, "--folder") as temporary:
        temporary.chmod(0o600)
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.chown(temporary, owner.st_uid, owner.st_gid)
        temporary.write_text(text)


def _device(text: str) -> str:
    try:
        return check_name(text, "DEVICE")
    except ValueError as error:
        raise UsageError(str(error)) from None
