"""Publish the answers of a run over MQTT, in addition to the output."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections import deque
from functools import partial
from itertools import count
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from device.cli.flags import Certificates
from device.cli.report import sample_json
from device.split.sample import SampleResult
from device.split.settings import ClientSettings
from device.transport.backoff import Backoff
from shared.errors import BrokerError, UsageError
from shared.fleet.broker import Broker, BrokerClient, parse_broker

KEPT = 10_000  # answers that may wait for the broker; beyond that the oldest are dropped
_log = logging.getLogger(__name__)


def parse_address(text: str, files: Certificates) -> tuple[Broker, str]:
    """Parse ``mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC`` into broker and topic; ``UsageError``.

    ``files`` are for a broker with TLS: the authority, the own certificate and its key.
    """
    try:
        parts = urlsplit(text)
        topic = parts.path.removeprefix("/")
        bad = bool(parts.query or parts.fragment) or any(mark in text for mark in "#+\0")
    except ValueError:
        parts, topic, bad = urlsplit(""), "", True
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not topic or bad:
        raise UsageError(
            "--publish: give mqtt://HOST:PORT/TOPIC or mqtts://HOST:PORT/TOPIC, the topic "
            "without # and +"
        )
    try:
        broker = parse_broker(
            f"{parts.scheme}://{parts.netloc}",
            None,
            None,
            *(files if parts.scheme == "mqtts" else ()),
        )
    except UsageError as error:
        raise UsageError(str(error).replace("--broker", "--publish")) from None
    return broker, topic


class Publisher:
    """Publishes answers to a topic at QoS 1, each as the JSON of a line of ``--output jsonl``.

    While the broker is away, the latest answers wait and the client continues. Use as ``async
    with``; the end waits for the broker for at most the settings' ``wait_s``. ``BrokerError`` at
    the start if the broker cannot be reached, and at the end if answers have not been delivered.
    """

    def __init__(
        self, address: str, settings: ClientSettings, files: Certificates = (None, None, None)
    ) -> None:
        self._broker, self._topic = parse_address(address, files)
        self._wait_s = settings.wait_s
        self._patient = settings.link.patient
        self._numbers = count()
        self._waiting: deque[tuple[int, bytes]] = deque()  # (number, message), oldest first
        self._changed = asyncio.Event()
        self._client: BrokerClient | None = None
        self._unconfirmed: set[asyncio.Future[None]] = set()
        self._dropped = 0
        self._failure = ""

    async def __aenter__(self) -> Self:
        self._ready = asyncio.Event()
        self._task = asyncio.create_task(self._stay_connected(), name="publisher")
        if not self._patient:
            try:
                async with asyncio.timeout(self._wait_s):
                    await self._ready.wait()
            except TimeoutError:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
                raise BrokerError(self._reason()) from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            async with asyncio.timeout(self._wait_s):
                while self._waiting or self._unconfirmed:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        lost = len(self._waiting) + len(self._unconfirmed) + self._dropped
        if lost and error is None:
            raise BrokerError(f"{self._reason()}; {lost} answers were not published")

    def send(self, result: SampleResult, name: str) -> None:
        """Publish one answer, now or when the broker is connected."""
        if len(self._waiting) == KEPT:
            self._waiting.popleft()
            self._dropped += 1
        payload = json.dumps(sample_json(result, name)).encode()
        self._waiting.append((next(self._numbers), payload))
        self._post()

    def _reason(self) -> str:
        text = self._failure or f"{self._broker}: does not answer within {self._wait_s:g} s"
        return f"--publish: {text.removeprefix('--broker: ')}"

    def _post(self) -> None:
        """Pass the waiting answers to the connection, if there is one."""
        while self._client is not None and self._waiting:
            message = self._waiting.popleft()
            future = self._client.post(self._topic, message[1])
            self._unconfirmed.add(future)
            future.add_done_callback(partial(self._confirmed, message))

    def _confirmed(self, message: tuple[int, bytes], done: asyncio.Future[None]) -> None:
        self._unconfirmed.discard(done)
        if done.cancelled() or done.exception() is not None:
            self._waiting.appendleft(message)  # to be sent again on the next connection
        self._changed.set()

    async def _stay_connected(self) -> None:
        backoff = Backoff(0.2, 5.0)
        name = f"{socket.gethostname()}-{os.getpid()}"
        while True:
            try:
                async with BrokerClient(
                    self._broker, name, lambda *_: None, session_s=0
                ) as self._client:
                    backoff.reset()
                    self._failure = ""
                    self._ready.set()
                    self._waiting = deque(sorted(self._waiting))  # unconfirmed ones were put back
                    self._post()
                    await self._client.lost()
            except BrokerError as error:
                if str(error) != self._failure and self._ready.is_set():
                    _log.warning("%s", str(error).replace("--broker", "--publish"))
                self._failure = str(error)
            finally:
                self._client = None
            await asyncio.sleep(backoff.next_s())
