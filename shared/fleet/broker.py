"""A connection to an MQTT broker: aiomqtt, with pipelined publishes and acknowledgement by hand.

``aiomqtt.Client`` waits for each publish and makes a task for each message; a fleet needs neither.
``BrokerClient`` keeps its connecting, timing and closing, and takes over what happens to messages.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from shared.errors import BrokerError, TakenOverError, UsageError

PORTS = {"mqtt": 1883, "mqtts": 8883}
IN_FLIGHT = 1000  # unacknowledged messages in either direction; deploy/mosquitto allows as many
KEEPALIVE_S = 60
SESSION_TAKEN_OVER = 142  # reason code of a DISCONNECT
DAY_S = 86_400
OnMessage = Callable[[str, bytes, int], None]  # topic, payload, number to acknowledge
_log = logging.getLogger(__name__)
_log.setLevel(logging.CRITICAL)  # paho's own notes: what matters comes as ``BrokerError``


@dataclass(frozen=True)
class Broker:
    """Where a broker is and how to get in."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_broker(
    url: str,
    username: str | None = None,
    password: str | None = None,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> Broker:
    """The broker at ``mqtt://[USER:PASSWORD@]HOST[:PORT]`` or ``mqtts://...``; ``UsageError``."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in PORTS or not parts.hostname or parts.path not in ("", "/"):
        raise UsageError(
            f"--broker: {url!r} is not allowed; give mqtt://HOST:PORT or mqtts://HOST:PORT"
        )
    tls = parts.scheme == "mqtts"
    if not tls and (ca or certificate or key):
        raise UsageError("--ca, --cert and --key: need --broker mqtts://HOST:PORT")
    if (certificate is None) != (key is None):
        raise UsageError("--cert and --key: must be given together")
    return Broker(
        parts.hostname,
        port or PORTS[parts.scheme],
        username if username is not None else (unquote(parts.username or "") or None),
        password if password is not None else (unquote(parts.password or "") or None),
        _context(ca, certificate, key) if tls else None,
    )


def _context(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        if certificate is not None and key is not None:
            context.load_cert_chain(str(certificate), str(key))
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"--ca, --cert, --key: cannot be used ({error})") from None
    return context


class BrokerClient(aiomqtt.Client):
    """One MQTT 5 connection, as ``async with``; for one entry. Failures are ``BrokerError``.

    ``on_message`` is called for each message; with ``manual_ack`` the broker keeps a message until
    ``acknowledge`` is called with its number. ``session_s`` is how long the broker keeps
    subscriptions and what comes meanwhile after the connection has ended.
    """

    def __init__(
        self,
        broker: Broker,
        identifier: str,
        on_message: OnMessage,
        *,
        will: aiomqtt.Will | None = None,
        session_s: int = DAY_S,
        manual_ack: bool = False,
    ) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = session_s
        properties.ReceiveMaximum = IN_FLIGHT
        super().__init__(
            broker.host,
            broker.port,
            identifier=identifier,
            username=broker.username,
            password=broker.password,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=session_s == 0,
            properties=properties,
            will=will,
            keepalive=KEEPALIVE_S,
            tls_context=broker.tls,
            max_inflight_messages=IN_FLIGHT,
            timeout=30,
            logger=_log,
        )
        self._broker = broker
        self._deliver = on_message
        self._posted: dict[int, asyncio.Future[None]] = {}
        self._client.manual_ack_set(manual_ack)

    async def __aenter__(self) -> Self:
        try:
            return await super().__aenter__()
        except aiomqtt.MqttError as error:
            raise BrokerError(f"--broker: {self._broker}: {_reason(error)}") from None

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._disconnected.done():
            self._disconnected.exception()  # whoever waited has been told
        try:
            await super().__aexit__(kind, error, trace)
        except aiomqtt.MqttError:
            _log.debug("the broker had gone before the connection was closed")
        finally:
            self._lose("the connection was closed")

    async def listen(self, *topics: str) -> None:
        """Subscribe at QoS 1, to what others publish; returns when the broker has confirmed."""
        options = SubscribeOptions(qos=1, noLocal=True)
        try:
            codes = await self.subscribe([(topic, options) for topic in topics])
        except aiomqtt.MqttError as error:
            raise BrokerError(f"--broker: {self._broker}: {_reason(error)}") from None
        for topic, code in zip(topics, codes, strict=True):
            if int(getattr(code, "value", code)) >= 128:  # type: ignore[call-overload]
                raise BrokerError(f"--broker: {self._broker}: does not allow to read {topic}")

    def post(
        self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None
    ) -> asyncio.Future[None]:
        """Publish at QoS 1 without waiting; the future is done when the broker has confirmed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        properties = None
        if expiry_s is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = expiry_s
        info = self._client.publish(topic, payload, 1, retain, properties)
        if info.rc != MQTT_ERR_SUCCESS:
            future.set_exception(BrokerError(f"--broker: {self._broker}: the connection is lost"))
        else:
            self._posted[info.mid] = future
        future.add_done_callback(_seen)
        return future

    def acknowledge(self, number: int) -> None:
        """Tell the broker that the message ``number`` has arrived for good."""
        self._client.ack(number, 1)

    async def lost(self) -> None:
        """Wait until the connection ends, and raise ``BrokerError`` (or ``TakenOverError``)."""
        try:
            await asyncio.shield(self._disconnected)
        except aiomqtt.MqttError as error:
            if _code(error) == SESSION_TAKEN_OVER:
                who = self._broker.username or "this client id"
                raise TakenOverError(
                    f"--broker: {self._broker}: another client has connected as {who}"
                ) from None
            raise BrokerError(f"--broker: {self._broker}: {_reason(error)}") from None
        except OSError as error:
            raise BrokerError(f"--broker: {self._broker}: {error}") from None
        raise BrokerError(f"--broker: {self._broker}: the connection ended")

    async def _misc_loop(self) -> None:
        """Look after keepalives; once a second, as aiomqtt does, is dear with 5,000 clients."""
        while self._client.loop_misc() == MQTT_ERR_SUCCESS:  # noqa: ASYNC110 - paho has no event
            await asyncio.sleep(KEEPALIVE_S / 6)

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, code: Any, properties: Any = None
    ) -> None:
        """A connection that ends before the broker has welcomed it has failed.

        aiomqtt goes on waiting, until its timeout, for a welcome that cannot come.
        """
        if self._connected.done():
            super()._on_disconnect(client, userdata, flags, code, properties)
        else:
            self._connected.set_exception(aiomqtt.MqttError("closed the connection"))

    def _on_message(self, client: Any, userdata: Any, message: MQTTMessage) -> None:  # noqa: ARG002
        self._deliver(message.topic, bytes(message.payload), message.mid)

    def _on_publish(self, client: Any, userdata: Any, mid: int, code: Any, properties: Any) -> None:
        future = self._posted.pop(mid, None)
        if future is None:
            super()._on_publish(client, userdata, mid, code, properties)
        elif not future.done():
            if code.value >= 128:
                text = f"--broker: {self._broker}: refuses a message ({code})"
                future.set_exception(BrokerError(text))
            else:
                future.set_result(None)

    def _lose(self, reason: str) -> None:
        for future in self._posted.values():
            if not future.done():
                future.set_exception(BrokerError(f"--broker: {self._broker}: {reason}"))
        self._posted.clear()


def _seen(future: asyncio.Future[None]) -> None:
    """Nobody need wait for a publish; what was not confirmed is sent again by its owner."""
    if not future.cancelled():
        future.exception()


def _code(error: aiomqtt.MqttError) -> int | None:
    """The reason code of MQTT 5, if the broker gave one."""
    code = getattr(error, "rc", None)
    value: int | None = getattr(code, "value", code)
    return value


def _reason(error: aiomqtt.MqttError) -> str:
    text = str(error)
    if "Not authorized" in text or "Bad user name" in text:
        return "refuses the credentials"
    return text or "cannot be reached"
