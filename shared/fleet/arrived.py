"""Messages that ask for a response."""

from __future__ import annotations

from dataclasses import dataclass

from paho.mqtt.client import MQTTMessage


@dataclass(frozen=True)
class Arrived:
    """A message that asks for a response, with what MQTT 5 says about it.

    number       to acknowledge; 0 for a message of QoS 0
    reply_to, correlation  where its sender wants the response, and with what
    expiry_s     after so many seconds nobody waits for it
    """

    topic: str
    payload: bytes
    number: int
    reply_to: str | None
    correlation: bytes | None
    expiry_s: int | None


def arrived(message: MQTTMessage, number: int) -> Arrived:
    """Paho's ``message``, to be acknowledged by ``number``."""
    properties = message.properties
    return Arrived(
        message.topic,
        bytes(message.payload),
        number,
        getattr(properties, "ResponseTopic", None),
        getattr(properties, "CorrelationData", None),
        getattr(properties, "MessageExpiryInterval", None),
    )
