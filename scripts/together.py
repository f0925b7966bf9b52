"""Runs several programs on this machine, which are started in turn and stopped together."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAUSE_S = 1.0  # between the starts of two programs
STOP_S = 15.0


def run_together(commands: dict[str, list[str]], folder: Path, greeting: str) -> None:
    """Start ``commands`` by name, print ``greeting``, and wait for Ctrl-C or SIGTERM.

    Logs are written to ``folder``. If a program fails, all are stopped and the exit message names
    its log; a program that ends with status 0 is not replaced.
    """
    running: dict[str, subprocess.Popen[bytes]] = {}
    for number in (signal.SIGTERM, signal.SIGINT):  # shells let background jobs ignore Ctrl-C
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        try:
            for name, words in commands.items():
                log = stack.enter_context((folder / f"{name}.log").open("ab"))
                running[name] = subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log)
                time.sleep(PAUSE_S)
            sys.stdout.write(greeting)
            sys.stdout.flush()
            ended = ""
            while not ended:
                time.sleep(0.5)
                ended = next((n for n, one in running.items() if one.poll() not in (None, 0)), "")
            sys.exit(f"error: {ended} ended; see {folder / (ended + '.log')}")
        except KeyboardInterrupt:
            sys.stdout.write("stopping\n")
        finally:
            _stop(running)


def _stop(running: dict[str, subprocess.Popen[bytes]]) -> None:
    for one in reversed(running.values()):
        if one.poll() is None:
            one.terminate()
    for one in running.values():
        try:
            one.wait(STOP_S)
        except subprocess.TimeoutExpired:
            one.kill()
