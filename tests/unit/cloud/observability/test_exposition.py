"""The metrics endpoint beside a running event loop."""

from __future__ import annotations

import asyncio
import urllib.request

from cloud.observability.exposition import exposed
from cloud.observability.metrics import Snapshot


async def test_its_end_does_not_stop_the_event_loop() -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    turning = asyncio.create_task(turn())
    async with exposed(Snapshot, "127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port}/metrics"
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read())
        assert b"taper" in page
        before = turns
    # The endpoint's server looks only twice a second whether it is to end.
    assert turns > before
    turning.cancel()


async def test_without_a_port_there_is_none() -> None:
    async with exposed(Snapshot, "127.0.0.1", None) as port:
        assert port is None
