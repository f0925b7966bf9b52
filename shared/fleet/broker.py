"""A connection to an MQTT broker: aiomqtt with pipelined publishes and manual acknowledgement.

``aiomqtt.Client`` waits for the confirmation of each publish, and acknowledges received messages on
its own. ``BrokerClient`` uses it for connecting, timeouts and closing, but handles messages itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from shared.errors import BrokerError, TakenOverError, UsageError
from shared.fleet.arrived import Arrived, arrived

PORTS = {"mqtt": 1883, "mqtts": 8883}
IN_FLIGHT = 1000  # unacknowledged messages in each direction, as in deploy/mosquitto
KEEPALIVE_S = 60
TIMEOUT_S = 30  # time limit of connecting and subscribing
FAILURE = 128  # MQTT 5 reason codes from this one on are errors
SESSION_TAKEN_OVER = 142  # MQTT 5 reason code of a DISCONNECT
DAY_S = 86_400
OnMessage = Callable[[str, bytes, int], None]  # (topic, payload, number to acknowledge)
OnRequest = Callable[[Arrived], None]
T = TypeVar("T")
_log = logging.getLogger(__name__)
_log.setLevel(logging.CRITICAL)  # paho's own log lines: failures arrive as ``BrokerError``


@dataclass(frozen=True)
class _Publish:
    """A message being published; ``future`` is done when the broker has confirmed it."""

    topic: str
    payload: bytes
    retain: bool
    properties: Properties | None
    future: asyncio.Future[None]


@dataclass(frozen=True)
class Broker:
    """Address and credentials of a broker; ``flag`` is the flag that named it."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    flag: str = "--broker"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_broker(
    url: str,
    username: str | None = None,
    password: str | None = None,
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    flag: str = "--broker",
) -> Broker:
    """Parse ``mqtt://[USER:PASSWORD@]HOST[:PORT]`` or ``mqtts://...``; ``UsageError``.

    A ``password`` of ``@FILE`` is read from the first line of that file. This is safer than a
    variable, which everyone who may inspect the process or container can read.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in PORTS or not parts.hostname or parts.path not in ("", "/"):
        raise UsageError(
            f"{flag}: {url!r} is not allowed; give mqtt://HOST:PORT or mqtts://HOST:PORT"
        )
    tls = parts.scheme == "mqtts"
    files = "--ca, --cert and --key" if flag == "--broker" else f"{flag}-ca"
    if not tls and (ca or certificate or key):
        raise UsageError(f"{files}: need {flag} mqtts://HOST:PORT")
    if (certificate is None) != (key is None):
        raise UsageError("--cert and --key: must be given together")
    return Broker(
        parts.hostname,
        port or PORTS[parts.scheme],
        username if username is not None else (unquote(parts.username or "") or None),
        _secret(password) if password is not None else (unquote(parts.password or "") or None),
        _context(ca, certificate, key, files) if tls else None,
        flag,
    )


def _secret(password: str) -> str:
    if not password.startswith("@"):
        return password
    try:
        return Path(password[1:]).read_text().partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--password: {password[1:]!r} cannot be read ({error})") from None


def _context(
    ca: Path | None, certificate: Path | None, key: Path | None, flags: str
) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        if certificate is not None and key is not None:
            context.load_cert_chain(str(certificate), str(key))
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{flags}: cannot be used ({error})") from None
    return context


class BrokerClient:
    """One MQTT 5 connection. Use once as ``async with``; failures raise ``BrokerError``.

    ``on_message`` is called for each message; clients that answer requests pass ``on_request``
    instead. With ``manual_ack`` the broker keeps a message until ``acknowledge`` is called with its
    number. The broker keeps subscriptions and queued messages for ``session_s`` seconds after the
    connection has ended. ``will`` is published by the broker if the connection is lost.
    """

    def __init__(
        self,
        broker: Broker,
        identifier: str,
        on_message: OnMessage | None = None,
        *,
        on_request: OnRequest | None = None,
        will: aiomqtt.Will | None = None,
        session_s: int = DAY_S,
        manual_ack: bool = False,
    ) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = session_s
        properties.ReceiveMaximum = IN_FLIGHT
        self._connection = aiomqtt.Client(
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
            timeout=TIMEOUT_S,
            logger=_log,
        )
        self._broker = broker
        self._deliver = on_message
        self._deliver_request = on_request
        self._posted: dict[int, asyncio.Future[None]] = {}
        self._queued: deque[_Publish] = deque()
        self._window = IN_FLIGHT  # unconfirmed publishes allowed; the broker may reduce it
        self._welcomed = False  # the broker has answered CONNECT, perhaps with a refusal
        self._open = False
        self._ended: asyncio.Future[BrokerError] = asyncio.get_running_loop().create_future()
        # aiomqtt exposes neither manual acknowledgement nor pipelined publishes, but the public
        # interface of its paho client does.
        self._paho: Client = self._connection._client
        self._paho.manual_ack_set(manual_ack)
        self._paho.on_message = self._on_message
        self._confirm_theirs: Any = self._paho.on_publish
        self._paho.on_publish = self._on_publish
        self._connect_theirs: Any = self._paho.on_connect
        self._paho.on_connect = self._on_connect
        self._disconnect_theirs: Any = self._paho.on_disconnect
        self._paho.on_disconnect = self._on_disconnect

    async def __aenter__(self) -> Self:
        failure = await self._connect()
        if failure is not None:
            raise failure
        self._open = True
        return self

    async def _connect(self) -> BrokerError | None:
        """Connect; return the error if that fails, else None.

        The error is not raised here, because its traceback would keep the socket of a failed
        handshake alive, which paho leaves to the garbage collector.
        """
        opening = asyncio.ensure_future(self._connection.__aenter__())
        # Watching ``_ended`` too avoids waiting for the timeout if the connection is closed before
        # the broker has answered.
        try:
            await asyncio.wait((opening, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if self._welcomed:
                await asyncio.wait((opening,))
        except asyncio.CancelledError:
            self._paho.on_socket_open = _hang_up  # as the connecting thread cannot be cancelled
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            self._paho.disconnect()
            raise
        if not opening.done():
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            return self._ended.result()
        error = opening.exception()
        if error is None:
            return self._ended.result() if self._ended.done() else None
        if not isinstance(error, aiomqtt.MqttError):
            raise error
        return self._failure(_reason(error))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._connection.__aexit__(kind, error, trace)
        except aiomqtt.MqttError:
            _log.debug("the broker had gone before the connection was closed")
        finally:
            self._fail_posted(self._failure("the connection was closed"))
            if self._ended.done():  # retrieve aiomqtt's exception, which asyncio would report
                with contextlib.suppress(aiomqtt.MqttError):
                    await anext(self._connection.messages)

    async def listen(self, *topics: str, own: bool = False) -> None:
        """Subscribe at QoS 1; return when the broker has confirmed.

        Messages that this client publishes are delivered to it only with ``own``.
        """
        options = SubscribeOptions(qos=1, noLocal=not own)
        wanted = [(topic, options) for topic in topics]
        codes = await self._answered(self._connection.subscribe(wanted))
        for topic, code in zip(topics, codes, strict=True):
            if int(getattr(code, "value", code)) >= FAILURE:  # type: ignore[call-overload]
                raise self._failure(f"does not allow to read {topic}")

    async def ignore(self, topic: str) -> None:
        """Unsubscribe from ``topic``; return when the broker has confirmed."""
        await self._answered(self._connection.unsubscribe(topic))

    async def _answered(self, asking: Coroutine[Any, Any, T]) -> T:
        """Return the broker's answer to ``asking``; raises at once if the connection ends."""
        task = asyncio.ensure_future(asking)
        try:
            await asyncio.wait((task, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise self._ended.result()
            return task.result()
        except aiomqtt.MqttError as error:
            raise self._failure(_reason(error)) from None
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def post(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
        correlation: bytes | None = None,
    ) -> asyncio.Future[None]:
        """Publish at QoS 1 without waiting; the future is done when the broker has confirmed.

        Messages beyond the broker's Receive Maximum are queued here until earlier ones are
        confirmed. ``expiry_s`` and ``correlation`` are MQTT 5 properties of the message.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_retrieve)
        properties = None
        if expiry_s is not None or correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if expiry_s is not None:
                properties.MessageExpiryInterval = expiry_s
            if correlation is not None:
                properties.CorrelationData = correlation
        publish = _Publish(topic, payload, retain, properties, future)
        if len(self._posted) < self._window:
            self._send(publish)
        else:
            self._queued.append(publish)
        return future

    def acknowledge(self, number: int) -> None:
        """Acknowledge the message ``number``; does nothing for 0, which stands for QoS 0."""
        if number:
            self._paho.ack(number, 1)

    async def lost(self) -> None:
        """Wait until the connection ends; raises ``BrokerError`` or ``TakenOverError``."""
        # No messages pass through aiomqtt's iterator, which fails when the connection ends.
        with contextlib.suppress(aiomqtt.MqttError):
            await anext(self._connection.messages)
        raise self._ended.result() if self._ended.done() else self._failure("the connection ended")

    def _failure(self, reason: str) -> BrokerError:
        return BrokerError(f"{self._broker.flag}: {self._broker}: {reason}")

    def _send(self, publish: _Publish) -> None:
        info = self._paho.publish(
            publish.topic, publish.payload, 1, publish.retain, publish.properties
        )
        if info.rc == MQTT_ERR_SUCCESS:
            self._posted[info.mid] = publish.future
        elif not publish.future.done():
            publish.future.set_exception(self._failure("the connection is lost"))

    def _on_connect(
        self, client: Client, userdata: Any, flags: Any, code: Any, properties: Any
    ) -> None:
        self._welcomed = True
        self._window = min(IN_FLIGHT, getattr(properties, "ReceiveMaximum", IN_FLIGHT))
        self._connect_theirs(client, userdata, flags, code, properties)

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: Any, code: Any, properties: Any
    ) -> None:
        if self._open:  # aiomqtt would lose the reason otherwise
            self._disconnect_theirs(client, userdata, flags, code, properties)
        if self._ended.done():
            return
        error = self._failure(f"closed the connection ({code})")
        if getattr(code, "value", code) == SESSION_TAKEN_OVER:
            who = self._broker.username or "this client id"
            text = f"{self._broker.flag}: {self._broker}: another client has connected as {who}"
            error = TakenOverError(text)
        self._ended.set_result(error)
        self._fail_posted(error)  # wakes up all who wait for confirmations

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:  # noqa: ARG002 - paho's signature
        number = message.mid if message.qos else 0
        if self._deliver is not None:
            self._deliver(message.topic, bytes(message.payload), number)
        if self._deliver_request is not None:
            self._deliver_request(arrived(message, number))

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, code: Any, properties: Any
    ) -> None:
        future = self._posted.pop(mid, None)
        if future is None:
            self._confirm_theirs(client, userdata, mid, code, properties)
            return
        while self._queued and len(self._posted) < self._window:
            self._send(self._queued.popleft())
        if future.done():
            return
        if code.value >= FAILURE:
            future.set_exception(self._failure(f"refuses a message ({code})"))
        else:
            future.set_result(None)

    def _fail_posted(self, error: BrokerError) -> None:
        waiting = [*self._posted.values(), *(publish.future for publish in self._queued)]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        self._posted.clear()
        self._queued.clear()


def _hang_up(client: Client, userdata: Any, connection: Any) -> None:  # noqa: ARG001 - paho's signature
    """Close a connection that was established after the attempt had been given up."""
    client.on_disconnect = None  # its handler must run in the event loop, which this thread is not
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _retrieve(future: asyncio.Future[None]) -> None:
    """Mark the outcome of a publish as retrieved, as callers need not await it."""
    if not future.cancelled():
        future.exception()


def _reason(error: aiomqtt.MqttError) -> str:
    text = str(error)
    if "Not authorized" in text or "Bad user name" in text:
        return "refuses the credentials"
    return text or "cannot be reached"
