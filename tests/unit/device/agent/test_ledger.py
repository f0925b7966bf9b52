"""The ledger when its file cannot be written."""

from __future__ import annotations

import asyncio
import json
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

    async with asyncio.timeout(60):
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


async def test_a_damaged_ledger_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(b"this is no database" * 1000)
    async with Ledger(path) as ledger:
        session = await ledger.begin("a")
        assert (session.number, session.next_sequence) == (1, 1)
        await ledger.add("a", 1, b"kept")
    assert (tmp_path / "ledger.damaged-1").exists()
    assert "is damaged" in caplog.text
    async with Ledger(path) as ledger:
        assert (await ledger.begin("a")).next_sequence == 2


async def test_damage_inside_a_ledger_is_found_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with Ledger(path) as ledger:
        await ledger.begin("a")
        for sequence in range(1, 200):
            await ledger.add("a", sequence, b"x" * 300)
    data = bytearray(path.read_bytes())
    data[4096:40960] = b"\xff" * (40960 - 4096)
    path.write_bytes(data)
    async with Ledger(path) as ledger:
        assert (await ledger.begin("a")).number == 1
    assert (tmp_path / "ledger.damaged-1").exists()


async def test_what_a_damaged_ledger_still_has_to_send_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger"

    def message(sequence: int) -> bytes:
        return json.dumps({"device": "a", "sequence": sequence, "text": "x" * 300}).encode()

    async with Ledger(path) as ledger:
        before = await ledger.begin("a")
        await ledger.keep_desired("a", b"desired")
        for sequence in range(1, 400):
            await ledger.add("a", sequence, message(sequence))
        ledger.confirm("a", 1)
    data = bytearray(path.read_bytes())
    half = len(data) // 8192 * 4096
    data[half : half + 8192] = b"\xff" * 8192
    path.write_bytes(data)
    for _ in range(2):  # the second time there is no damage
        async with Ledger(path) as ledger:
            after = await ledger.begin("a")
            kept = [json.loads(payload)["sequence"] for _, payload in await ledger.unconfirmed("a")]
            assert await ledger.desired("a") == b"desired"
            assert await ledger.oldest("a") is None
        assert after.epoch != before.epoch
        assert after.next_sequence == 1
        assert 300 < len(kept) < 398
        assert kept == sorted(kept)
        assert 1 not in kept
    async with Ledger(path) as ledger:
        number, _ = (await ledger.unconfirmed("a"))[0]
        ledger.confirm("a", number)
    async with Ledger(path) as ledger:
        assert len(await ledger.unconfirmed("a")) == len(kept) - 1


async def test_without_a_disk_the_ledger_is_kept_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Ledger(tmp_path / "no" / "folder" / "ledger") as ledger:
        session = await ledger.begin("a")
        await ledger.add("a", 1, b"first")
        assert await ledger.unconfirmed("a") == [(1, b"first")]
    assert session.epoch
    assert "kept in memory" in caplog.text


async def test_a_ledger_that_leaves_its_disk_begins_another_epoch(tmp_path: Path) -> None:
    async with Ledger(tmp_path / "ledger") as ledger:
        before = await ledger.begin("a")
        await ledger.add("a", 1, b"on the disk")
        await ledger.leave_disk()
        after = await ledger.begin("a")
        assert (after.number, after.next_sequence) == (1, 1)
        assert after.epoch != before.epoch
    async with Ledger(tmp_path / "ledger") as ledger:  # the next start
        again = await ledger.begin("a")
        assert (again.epoch, again.next_sequence) == (before.epoch, 2)
        assert await ledger.unconfirmed("a") == [(1, b"on the disk")]
