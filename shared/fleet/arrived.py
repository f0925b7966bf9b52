"""MQTT messages that request a response."""

from __future__ import annotations

from dataclasses import dataclass

from paho.mqtt.client import MQTTMessage


@dataclass(frozen=True)
class Arrived:
    """A message that requests a response, with its MQTT 5 properties.

    number       number for the acknowledgement; 0 for a message of QoS 0
    reply_to     response topic that the sender wants, if any
    correlation  correlation data that the response must carry, if any
    expiry_s     seconds after which the sender no longer waits, if limited
    """

    topic: str
    payload: bytes
    number: int
    reply_to: str | None
    correlation: bytes | None
    expiry_s: int | None


def arrived(message: MQTTMessage, number: int) -> Arrived:
    """Convert paho's ``message``, which is acknowledged by ``number``."""
    properties = message.properties
    return Arrived(
        message.topic,
        bytes(message.payload),
        number,
        getattr(properties, "ResponseTopic", None),
        getattr(properties, "CorrelationData", None),
        getattr(properties, "MessageExpiryInterval", None),
    )
