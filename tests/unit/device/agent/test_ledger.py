"""The ledger when its file cannot be written."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from device.agent.ledger import Ledger
from shared.errors import UsageError


async def test_a_ledger_whose_last_commit_fails_says_so_and_still_ends(tmp_path: Path) -> None:
    begun, busy = threading.Event(), threading.Event()

    def wait(database: sqlite3.Connection) -> None:
        begun.set()
        busy.wait()

    def fail(database: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async with asyncio.timeout(30):
        async with Ledger(tmp_path / "ledger") as ledger:
            waiting = asyncio.create_task(ledger._ask(wait))
            await asyncio.to_thread(begun.wait)
            failing = asyncio.create_task(ledger._ask(fail))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.1, busy.set)
            # The end of the block asks the thread to stop, in one batch with what fails.
        with pytest.raises(UsageError, match=r"--ledger: .*full"):
            await failing
        await waiting
