"""Connections to a broker that fail in ways that a broker itself does not show."""

from __future__ import annotations

import asyncio

import pytest
from aiomqtt import MqttCodeError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from shared.errors import BrokerError, TakenOverError
from shared.fleet.broker import BrokerClient, parse_broker


async def test_a_connection_that_is_closed_before_the_welcome_fails_at_once() -> None:
    """As behind a port forwarder or a proxy whose broker is down; not after a timeout of 30 s."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        broker = parse_broker(f"mqtt://127.0.0.1:{port}")
        async with asyncio.timeout(15):
            with pytest.raises(BrokerError, match="closed the connection"):
                async with BrokerClient(broker, "x", lambda *_: None, session_s=0):
                    pass


async def test_a_broker_that_says_so_names_the_one_who_took_over() -> None:
    client = BrokerClient(parse_broker("mqtt://me:word@localhost"), "x", lambda *_: None)
    code = ReasonCode(PacketTypes.DISCONNECT, "Session taken over")
    client._disconnected.set_exception(MqttCodeError(code))
    with pytest.raises(TakenOverError, match="another client has connected as me"):
        await client.lost()
