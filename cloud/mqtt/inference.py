"""Answer serialised ``InferRequest`` messages that devices publish to a broker.

A request arrives on ``taper/v1/{fleet}/{device}/infer``. Its ``InferResponse`` is published to
``.../inferred``, or to the MQTT 5 response topic if that one is below ``.../inferred``, with the
request's correlation data.
Requests pass the same service, limits and metrics as those of gRPC. The caller is the device in the
topic, which the broker has authenticated. A refused request gets a response that gives the reason.

Servers at one broker share the requests. A request is acknowledged once the broker has its
response, so the broker delivers at most ``IN_FLIGHT`` at a time.
"""

from __future__ import annotations

import asyncio
import secrets

import structlog

from cloud.access.control import UNKNOWN_CALLER, AccessControl, Caller
from cloud.mqtt.recent import RecentAnswers
from cloud.rpc.service import InferenceService, refusal
from shared.errors import (
    BrokerError,
    InvalidRequestError,
    OverloadedError,
    RequestError,
    ServerFaultError,
    TakenOverError,
)
from shared.fleet.arrived import Arrived
from shared.fleet.broker import IN_FLIGHT, Broker, BrokerClient
from shared.fleet.losses import Losses
from shared.fleet.messages import NAME, NAME_RULE, ROOT
from shared.protocol.messages import parse_request

INFER, INFERRED = "infer", "inferred"
TOPICS = f"$share/taper-inference/{ROOT}/+/+/{INFER}"
RECONNECT_S = 0.5
RETRY_AFTER_MS = 1000
_log = structlog.stdlib.get_logger(__name__)


class MqttInference:
    """Answers the requests at one broker. ``connected`` is set while there is a connection."""

    def __init__(
        self, broker: Broker, service: InferenceService, access: AccessControl, largest_bytes: int
    ) -> None:
        self.connected = asyncio.Event()
        self._broker = broker
        self._service = service
        self._access = access
        self._largest_bytes = largest_bytes
        self._identifier = broker.username or f"inference-{secrets.token_hex(6)}"
        self._recent = RecentAnswers()
        self._losses = Losses()

    async def run(self) -> None:
        """Answer until cancelled; connects again after the connection is lost.

        Raises ``BrokerError`` if the first connection fails, ``TakenOverError`` if another client
        has connected as this user.
        """
        welcomed = False
        while True:
            try:
                await self._serve_connection()
            except BrokerError as error:
                welcomed = welcomed or self.connected.is_set()
                if isinstance(error, TakenOverError) or not welcomed:
                    raise
                if self.connected.is_set() and self._losses.repeated():
                    text = "is there another client with this user?"
                    raise TakenOverError(f"{error}, again and again; {text}") from None
                _log.warning("broker lost", why=str(error))
            finally:
                self.connected.clear()
            await asyncio.sleep(RECONNECT_S)

    async def _serve_connection(self) -> None:
        """Serve one connection until it is lost; while draining no more requests are accepted."""
        tasks: set[asyncio.Task[None]] = set()

        def take(request: Arrived) -> None:
            if len(tasks) >= IN_FLIGHT:  # messages of QoS 0 wait for no acknowledgement
                error = OverloadedError("server: too many requests are under way", RETRY_AFTER_MS)
                self._service.count_refusal(error, UNKNOWN_CALLER, len(request.payload))
                client.acknowledge(request.number)
                return
            task = asyncio.create_task(self._answer(client, request), name="mqtt request")
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        async def leave() -> None:
            await self._access.draining.wait()
            await client.ignore(TOPICS)

        client = BrokerClient(
            self._broker, self._identifier, on_request=take, session_s=0, manual_ack=True
        )
        async with client:
            leaving = asyncio.create_task(leave(), name="mqtt drain")
            try:
                # MQTT 5 forbids the option No Local on shared subscriptions.
                await client.listen(TOPICS, own=True)
                self.connected.set()
                await client.lost()
            finally:
                started = [leaving, *tasks]
                for task in started:
                    task.cancel()
                await asyncio.gather(*started, return_exceptions=True)

    async def _answer(self, client: BrokerClient, request: Arrived) -> None:
        """Publish the response to one request, and acknowledge the request."""
        prefix = request.topic.removesuffix(INFER)
        topic, response = prefix + INFERRED, b""
        caller, size = UNKNOWN_CALLER, len(request.payload)
        try:
            caller = _caller(request.topic)
            topic = _response_topic(topic, request.reply_to)
            with self._access.named_call(caller, size):
                response = await self._respond(request, caller)
            self._service.count_answer(size, len(response))
        except RequestError as error:
            response = self._refuse(error, caller, request.payload)
        except Exception:  # noqa: BLE001 - one request must not end the others
            _log.exception("request failed", client=caller.name)
            fault = ServerFaultError("server: failed; see its log")
            response = self._refuse(fault, caller, request.payload)
        try:
            await client.post(topic, response, correlation=request.correlation)
        except BrokerError as error:
            _log.warning("answer not delivered", client=caller.name, why=str(error))
        client.acknowledge(request.number)

    async def _respond(self, request: Arrived, caller: Caller) -> bytes:
        if len(request.payload) > self._largest_bytes:
            raise InvalidRequestError(
                f"request: {len(request.payload)} bytes is too large; {self._largest_bytes} at most"
            )
        seconds = None if request.expiry_s is None else float(request.expiry_s)
        return await self._recent.answer(
            (request.topic, request.payload),
            lambda: self._service.submit(request.payload, caller, seconds),
        )

    def _refuse(self, error: RequestError, caller: Caller, payload: bytes) -> bytes:
        try:
            number = parse_request(payload).id
        except RequestError:
            number = 0
        self._service.count_refusal(error, caller, len(payload), number)
        return refusal(number, error)


def _caller(topic: str) -> Caller:
    """Return the device in the topic ``taper/v1/{fleet}/{device}/infer`` as the caller."""
    *_, fleet, device, _ = topic.split("/")
    for name in (fleet, device):
        if NAME.fullmatch(name) is None:
            raise InvalidRequestError(f"topic: {name[:64]!r} is no name; {NAME_RULE}")
    return Caller(f"{fleet}/{device}")


def _response_topic(own: str, wanted: str | None) -> str:
    """Return ``wanted`` if it is below ``own``, else ``own``: no device writes another's topics."""
    if wanted is None or wanted == own:
        return own
    below = wanted.startswith(f"{own}/") and not set(wanted) & set("+#\0")
    if not below:
        raise InvalidRequestError(f"response topic: must be {own} or lie below it")
    return wanted
