"""Connections to a broker that fail in ways that a broker itself does not show."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.errors import BrokerError, TakenOverError
from shared.fleet.broker import BrokerClient, parse_broker
from tests.support.broker import Mosquitto, mosquitto
from tests.support.clouds import until

WELCOME = b"\x20\x03\x00\x00\x00"  # CONNACK of MQTT 5, accepted
TAKEN_OVER = b"\xe0\x02\x8e\x00"  # DISCONNECT, reason 142
PING = b"\xc0\x00"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[int]:
    """The port of a listener that answers connections so."""
    ended: list[asyncio.Event] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.Event())
        try:
            await answer(reader, writer)
        finally:
            writer.close()
            ended[-1].set()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with listener:
        port: int = listener.sockets[0].getsockname()[1]
        yield port
        await asyncio.gather(*(one.wait() for one in ended))


async def test_a_connection_that_is_closed_before_the_welcome_fails_at_once() -> None:
    """As behind a port forwarder or a proxy whose broker is down; not after a timeout of 30 s."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with answering(hang_up) as port, asyncio.timeout(15):
        broker = parse_broker(f"mqtt://127.0.0.1:{port}")
        with pytest.raises(BrokerError, match="closed the connection"):
            async with BrokerClient(broker, "x", lambda *_: None, session_s=0):
                pass


@pytest.mark.parametrize("delay_s", [0.0, 0.3])
async def test_a_broker_that_says_so_names_the_one_who_took_over(delay_s: float) -> None:
    async def take_over(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(WELCOME)
        await writer.drain()
        await asyncio.sleep(delay_s)
        writer.write(TAKEN_OVER)
        await writer.drain()
        await asyncio.sleep(0.2)

    async with answering(take_over) as port, asyncio.timeout(15):
        broker = parse_broker(f"mqtt://me:word@127.0.0.1:{port}")
        with pytest.raises(TakenOverError, match="another client has connected as me"):
            async with BrokerClient(broker, "x", lambda *_: None, session_s=0) as client:
                await client.lost()


@pytest.mark.parametrize("slow_s", [0.0, 0.3], ids=["connected", "still connecting"])
async def test_who_stops_connecting_leaves_nothing_behind(
    slow_s: float, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, left = asyncio.Event(), asyncio.Event()
    connect = socket.create_connection

    def connect_slowly(*words: Any, **options: Any) -> socket.socket:
        made = connect(*words, **options)
        time.sleep(slow_s)  # in the thread that connects, when the other end has accepted
        return made

    monkeypatch.setattr(socket, "create_connection", connect_slowly)

    async def keep_waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        while await reader.read(1000):
            pass
        left.set()

    async with answering(keep_waiting) as port, asyncio.timeout(60):
        broker = parse_broker(f"mqtt://127.0.0.1:{port}")
        client = BrokerClient(broker, "x", lambda *_: None, session_s=0)
        connecting = asyncio.ensure_future(client.__aenter__())
        await asked.wait()
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await left.wait()
        del client, connecting
        gc.collect()
        await asyncio.sleep(0)
    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize("say", [TAKEN_OVER, b""], ids=["it says so", "it hangs up"])
async def test_who_waits_for_a_confirmation_learns_that_the_connection_has_ended(
    say: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(WELCOME)
        await writer.drain()
        await reader.read(1000)  # the message
        writer.write(say)
        await writer.drain()

    async with answering(end) as port, asyncio.timeout(60):
        broker = parse_broker(f"mqtt://127.0.0.1:{port}")
        asking: tuple[Callable[[BrokerClient], Awaitable[None]], ...] = (
            lambda client: client.post("topic", b"payload"),
            lambda client: client.listen("topic"),
            lambda client: client.ignore("topic"),
        )
        for ask in asking:
            client = BrokerClient(broker, "x", lambda *_: None, session_s=0)
            with pytest.raises(TakenOverError if say else BrokerError):
                async with client:
                    await ask(client)
            del client
            gc.collect()
            await asyncio.sleep(0)
    assert "never retrieved" not in caplog.text


async def test_the_client_pings_as_often_as_the_broker_demands() -> None:
    pinged = asyncio.Event()

    async def demand(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"\x20\x06\x00\x00\x03\x13\x00\x01")  # CONNACK, Server Keep Alive 1 s
        await writer.drain()
        while PING not in await reader.read(100):
            pass
        pinged.set()

    async with answering(demand) as port:
        broker = parse_broker(f"mqtt://127.0.0.1:{port}")
        async with BrokerClient(broker, "x", lambda *_: None, session_s=0):
            await asyncio.wait_for(pinged.wait(), 10)


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that allows 3 unconfirmed messages."""
    with mosquitto(tmp_path / "broker") as running:
        running.kill()
        text = running.settings.read_text()
        text = text.replace("max_inflight_messages 1000", "max_inflight_messages 3")
        running.settings.write_text(text)
        running.start()
        yield running


async def test_the_receive_maximum_of_the_broker_is_kept(narrow: Mosquitto) -> None:
    heard: list[bytes] = []
    async with (
        BrokerClient(narrow.broker, "ear", lambda _t, data, _n: heard.append(data)) as ear,
        BrokerClient(narrow.broker, "mouth", lambda *_: None) as mouth,
    ):
        await ear.listen("all")
        sent = [str(number).encode() for number in range(200)]
        await asyncio.wait_for(asyncio.gather(*(mouth.post("all", one) for one in sent)), 20)
        await until(lambda: len(heard) == len(sent))
        assert heard == sent
