"""The ledger when its file cannot be written."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from device.agent.ledger import Ledger
from shared.errors import UsageError
from tests.support.databases import connections, fill_disk


async def test_a_ledger_whose_last_commit_fails_says_so_and_still_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = connections(monkeypatch)
    begun, busy = threading.Event(), threading.Event()

    def hold(statement: str) -> None:
        begun.set()
        busy.wait()

    async with asyncio.timeout(30):
        async with Ledger(tmp_path / "ledger") as ledger:
            fill_disk(opened[-1])
            opened[-1].set_trace_callback(hold)
            waiting = asyncio.create_task(ledger.begin("a"))
            await asyncio.to_thread(begun.wait)
            failing = asyncio.create_task(ledger.add("a", 1, bytes(100_000)))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.1, busy.set)
            # The end of the block asks the thread to stop, in one batch with what fails.
        with pytest.raises(UsageError, match=r"--ledger: .*full"):
            await failing
        begun_session = await waiting
        assert (begun_session.number, begun_session.next_sequence) == (1, 1)
