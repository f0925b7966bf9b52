"""A TCP relay that is a bad network: slow, narrow, cut, or silent with both ends still open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

CHUNK_BYTES = 2**14


@dataclass(frozen=True)
class Weather:
    """How the network is: ``delay_s`` each way, at most ``bytes_per_s`` each way if not None."""

    delay_s: float = 0.0
    bytes_per_s: float | None = None


FAIR = Weather()


class Connection:
    """One connection through the relay. Bytes keep their order, whatever the weather."""

    def __init__(self, relay: BadNetwork, near: Ends, far: Ends) -> None:
        self._relay = relay
        self._ends = (near, far)
        self.hushed = False

    async def carry(self) -> None:
        """Carry bytes both ways until both ends have had enough, or either is lost."""
        near, far = self._ends
        pumps = [
            asyncio.create_task(self._pump(near[0], far[1])),
            asyncio.create_task(self._pump(far[0], near[1])),
        ]
        try:
            await asyncio.gather(*pumps)
        except OSError:
            pass  # either end may be gone at any time
        finally:
            for pump in pumps:
                pump.cancel()
            self.cut()

    def cut(self) -> None:
        """Break it: both ends are told."""
        for _, writer in self._ends:
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            weather = self._relay.weather
            seconds = weather.delay_s
            if weather.bytes_per_s:
                seconds += len(data) / weather.bytes_per_s
            if seconds:
                await asyncio.sleep(seconds)
            if self.hushed:
                continue  # into the void, and nobody is told
            writer.write(data)
            await writer.drain()
        if not self.hushed:
            with suppress(OSError):
                writer.write_eof()


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class BadNetwork:
    """What lies between clients and one server."""

    def __init__(self) -> None:
        self.address = ""
        self.weather = FAIR
        self.connections: set[Connection] = set()

    def cut(self) -> int:
        """Break every connection; how many."""
        cut = list(self.connections)
        for connection in cut:
            connection.cut()
        return len(cut)

    async def hush(self, seconds: float) -> int:
        """Let every connection go silent, both ends still open; break them after ``seconds``."""
        hushed = list(self.connections)
        for connection in hushed:
            connection.hushed = True
        await asyncio.sleep(seconds)
        for connection in hushed:
            connection.cut()
        return len(hushed)


@asynccontextmanager
async def bad_network(server: str) -> AsyncIterator[BadNetwork]:
    """A relay to ``server`` (HOST:PORT) while the block runs; the weather is fair at first."""
    host, _, port = server.rpartition(":")
    network = BadNetwork()
    tasks: set[asyncio.Task[None]] = set()

    async def carry(near: Ends) -> None:
        try:
            far = await asyncio.open_connection(host, int(port))
        except OSError:
            near[1].transport.abort()  # the server is down: the client sees its connection fail
            return
        connection = Connection(network, near, far)
        network.connections.add(connection)
        try:
            await connection.carry()
        finally:
            network.connections.discard(connection)

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(carry((reader, writer)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(connect, "127.0.0.1", 0)
    network.address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield network
    finally:
        listener.close()
        network.cut()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()
