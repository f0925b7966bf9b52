"""What an agent tells systemd: that it has started, how it is, and that it still works."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable

# Of RFC 5424, which journald reads at the start of a line as <N>.
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class JournalFormatter(logging.Formatter):
    """One line an entry, with journald's priority before it; the journal knows the time."""

    def format(self, record: logging.LogRecord) -> str:
        """The entry; a traceback follows in lines of the same priority."""
        level = PRIORITIES.get(record.levelno, 2)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


def under_journal() -> bool:
    """Whether standard error goes to journald (systemd.exec(5), ``JOURNAL_STREAM``)."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def set_up_logging() -> None:
    """Log to standard error, as journald or a person reads it."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JournalFormatter("%(message)s")
        if under_journal()
        else logging.Formatter("%(levelname)s %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def notify(state: str) -> bool:
    """Send ``state`` to systemd (sd_notify(3)); False if it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(address)
            sender.send(state.encode())
    except OSError:
        return False
    return True


def watchdog_s() -> float | None:
    """Seconds within which systemd wants a sign of life; None if it does not watch."""
    try:
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return microseconds / 1e6 if microseconds > 0 and watched == str(os.getpid()) else None


async def report(is_working: Callable[[], bool], status: Callable[[], str]) -> None:
    """Say that the agent has started, then that it works for as long as that is true.

    ``status`` is a line for ``systemctl status``. Never returns.
    """
    notify("READY=1")
    limit_s = watchdog_s()
    while True:
        signs = [f"STATUS={status()}"]
        if limit_s is not None and is_working():
            signs.append("WATCHDOG=1")
        notify("\n".join(signs))
        await asyncio.sleep(min(limit_s or 60.0, 60.0) / 3)
