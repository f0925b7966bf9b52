"""The server's connection to an MQTT broker."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from cloud.access.control import AccessControl
from cloud.rpc.service import InferenceService
from cloud.settings import ServerSettings

PASSWORD_VARIABLE = "TAPER_BROKER_PASSWORD"  # noqa: S105 - its name
USER = "inference"  # the server's user in deploy/mosquitto/acl


@contextlib.asynccontextmanager
async def answering_broker(
    settings: ServerSettings, service: InferenceService, access: AccessControl
) -> AsyncIterator[None]:
    """Answer the requests of devices at a broker while the block runs, if ``settings`` name one.

    Raises ``UsageError`` or ``BrokerError`` if the first connection fails. If the connection is
    lost later, it is made again. If another client connects under the same user, the block ends
    with ``TakenOverError``.
    """
    if settings.mqtt is None:
        yield
        return
    # Imported here, so that a server without a broker does not load the MQTT client.
    from cloud.mqtt.inference import MqttInference
    from shared.fleet.broker import parse_broker

    password = os.environ.get(PASSWORD_VARIABLE)
    user = None if password is None or "@" in settings.mqtt else USER
    broker = parse_broker(settings.mqtt, user, password, ca=settings.mqtt_ca, flag="--mqtt")
    inference = MqttInference(broker, service, access, settings.max_message_bytes)
    body = asyncio.current_task()
    task = asyncio.create_task(inference.run(), name="mqtt")
    connected = asyncio.create_task(inference.connected.wait(), name="mqtt connected")

    def end_block(ended: asyncio.Task[None]) -> None:
        if not ended.cancelled() and body is not None:
            body.cancel()

    try:
        await asyncio.wait((task, connected), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        task.add_done_callback(end_block)
        yield
    except asyncio.CancelledError:
        if body is not None and task.done() and not task.cancelled():
            body.uncancel()
            task.result()
        raise
    finally:
        task.remove_done_callback(end_block)
        for one in (task, connected):
            one.cancel()
        await asyncio.gather(task, connected, return_exceptions=True)
