"""A TCP relay that counts: every byte between a client and a server, both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

CHUNK_BYTES = 2**16


@dataclass
class Relay:
    """Where to connect to, and how many bytes have passed: up to the server, down to the client."""

    address: str
    up: int = 0
    down: int = 0
    connections: int = 0

    @property
    def total(self) -> int:
        """Bytes of both ways."""
        return self.up + self.down


@asynccontextmanager
async def counting_relay(server: str) -> AsyncIterator[Relay]:
    """A relay to ``server`` (HOST:PORT) while the block runs."""
    host, _, port = server.rpartition(":")
    relay = Relay("")
    writers: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[None]] = set()

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upwards: bool
    ) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                if upwards:
                    relay.up += len(data)
                else:
                    relay.down += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # either end may be gone at any time
        finally:
            writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay.connections += 1
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writers.update((writer, far_writer))
        await asyncio.gather(pump(reader, far_writer, True), pump(far_reader, writer, False))

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(carry(reader, writer)))

    listener = await asyncio.start_server(connect, "127.0.0.1", 0)
    relay.address = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        listener.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()
