"""Batteries that the system does not list: read from a command, a file or a plug-in."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from device.energy.battery import READ_EVERY_S
from device.energy.charge import Battery, Charge
from shared.errors import UsageError

GROUP = "taper.batteries"  # the group of entry points
CHARGING = ("charging", "plugged", "full")
NOT_CHARGING = ("discharging", "unplugged")
COMMAND_S = 10.0
FIRST_S = 2.0  # how long the first reading is waited for


def parse_charge(text: str) -> Charge:
    """Parse a charge from text or JSON; ``ValueError``.

    Examples are ``57``, ``57% charging`` and ``{"percent": 57, "plugged": true}``. Without mention,
    the battery is not being charged.
    """
    stripped = text.strip()
    if stripped.startswith("{"):
        found = json.loads(stripped)
        percent, plugged = float(found["percent"]), bool(found.get("plugged", False))
    else:
        number, *words = stripped.replace("%", " ").split() or [""]
        percent = float(number)
        unknown = [word for word in words if word.lower() not in CHARGING + NOT_CHARGING]
        if unknown:
            raise ValueError(
                f"{unknown[0]!r} is unknown; give {', '.join(CHARGING + NOT_CHARGING)}"
            )
        plugged = any(word.lower() in CHARGING for word in words)
    if not (math.isfinite(percent) and 0 <= percent <= 100):
        raise ValueError(f"{percent:g} is not from 0 to 100 percent")
    return Charge(percent / 100, plugged)


def read_file(path: Path) -> Callable[[], Charge]:
    """Return a function that reads the charge from a file, which another program updates."""

    def read() -> Charge:
        try:
            return parse_charge(path.read_text())
        except (KeyError, ValueError) as error:
            raise ValueError(f"--battery-file: {path}: {error}") from None

    return read


def read_command(command: str) -> Callable[[], Charge]:
    """Return a function that reads the charge from a program's output.

    ``UsageError`` if ``command`` is not the command line of a program.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--battery-command: {command!r} is not a command ({error})") from None
    if not words:
        raise UsageError("--battery-command: is empty; give a program and its words")

    def read() -> Charge:
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=COMMAND_S, check=False
            )
            if done.returncode:
                raise ValueError(f"ends with {done.returncode}")
            return parse_charge(done.stdout)
        except (OSError, subprocess.SubprocessError, KeyError, ValueError) as error:
            raise ValueError(f"--battery-command: {words[0]}: {error}") from None

    return read


def read_plugin(name: str) -> Callable[[], Charge]:
    """Return a function that reads a battery of another package's entry point ``taper.batteries``.

    The entry point is a callable without arguments. It returns an object whose method ``charge()``
    returns an object with ``level`` (0 to 1) and ``plugged``. ``UsageError`` if there is no entry
    point of this name.
    """
    from importlib.metadata import entry_points

    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise UsageError(f"--battery-plugin: {name!r} is not installed; installed are {known}")
    try:
        battery: Battery = found[name].load()()
    except Exception as error:  # noqa: BLE001 - plug-ins may raise anything
        raise UsageError(f"--battery-plugin: {name} cannot be used ({error})") from None

    def read() -> Charge:
        charge = battery.charge()
        level = float(charge.level)
        if not 0 <= level <= 1:
            raise ValueError(f"--battery-plugin: {name}: {level:g} is not from 0 to 1")
        return Charge(level, bool(charge.plugged))

    return read


class Background:
    """Calls ``read`` repeatedly in a thread, so that a slow reading does not delay samples."""

    def __init__(self, read: Callable[[], Charge]) -> None:
        self._read = read
        self._found: Charge | Exception | None = None
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._run, name="battery", daemon=True)

    def __call__(self) -> Charge:
        """Return the last reading or raise its error; waits at most ``FIRST_S`` for the first."""
        if not self._thread.is_alive() and self._found is None:
            self._thread.start()
        self._first.wait(FIRST_S)
        if isinstance(self._found, Charge):
            return self._found
        raise ValueError(str(self._found or "it has not answered yet"))

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self._found = self._read()
            except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
                self._found = error
            self._first.set()
            pause.wait(READ_EVERY_S)
