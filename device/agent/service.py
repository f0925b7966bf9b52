"""Notify systemd of an agent's start, status and signs of life, and log for its journal."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable

# Priorities of RFC 5424, which journald reads as <N> at the start of a line.
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class JournalFormatter(logging.Formatter):
    """Formats lines with journald's priority in front and no time, which the journal adds."""

    def format(self, record: logging.LogRecord) -> str:
        """Format an entry; a traceback follows in lines of the same priority."""
        level = PRIORITIES.get(record.levelno, 2)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


def logs_to_journald() -> bool:
    """Whether standard error goes to journald (systemd.exec(5), ``JOURNAL_STREAM``)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def set_up_logging() -> None:
    """Log to standard error, in the format for journald or for people."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JournalFormatter("%(message)s")
        if logs_to_journald()
        else logging.Formatter("%(levelname)s %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def notify(state: str) -> bool:
    """Send ``state`` to systemd (sd_notify(3)); return False if it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # a socket in Linux's abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(address)
            sender.send(state.encode())
    except OSError:
        return False
    return True


def watchdog_s() -> float | None:
    """Return the seconds within which systemd expects a sign of life; None if it does not."""
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return microseconds / 1e6 if microseconds > 0 and watched == str(os.getpid()) else None


async def report(is_working: Callable[[], bool], status: Callable[[], str]) -> None:
    """Notify systemd that the agent has started, then of signs of life while ``is_working()``.

    ``status`` returns the line for ``systemctl status``. Never returns.
    """
    notify("READY=1")
    limit_s = watchdog_s()
    while True:
        signs = [f"STATUS={status()}"]
        if limit_s is not None and is_working():
            signs.append("WATCHDOG=1")
        notify("\n".join(signs))
        await asyncio.sleep(min(limit_s or 60.0, 60.0) / 3)
