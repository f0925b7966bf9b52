"""``python -m device.micro.carry``: relay the packets of a board without a network.

A packet is the kind of its topic (``birth``, ``infer``, ...) as 12 characters padded with zeros,
the size of the payload as 32 bits, little-endian, and the payload. ``send`` publishes the packets
as the device and prints the server's answers. ``desired`` writes the device's desired state for the
board to read.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from protos.split.v1 import split_pb2 as pb
from shared.command import run_command
from shared.errors import UsageError
from shared.fleet.broker import Broker, BrokerClient, parse_broker
from shared.fleet.messages import RETAINED, ROOT, MessageKind, check_name
from shared.protocol.messages import Response, response_from_message

HEAD = struct.Struct("<12sI")
INFER, INFERRED = "infer", "inferred"
RETAINED_KINDS = {kind.value for kind in RETAINED} - {MessageKind.DESIRED.value}
KINDS = {*RETAINED_KINDS, MessageKind.TELEMETRY.value, INFER}
LARGEST_BYTES = 64 * 2**10
WAIT_S = 30.0  # longest wait for all answers together
RETAINED_WITHIN_S = 1.0  # a retained desired state arrives within this time
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Packet:
    """A payload that a board wants to be published under ``kind``."""

    kind: str
    payload: bytes


def read_packets(content: bytes) -> Iterator[Packet]:
    """Parse the packets that a board wrote; ``UsageError`` if they are damaged."""
    at = 0
    while at < len(content):
        if len(content) - at < HEAD.size:
            raise UsageError(f"FILE: is cut off after {at} bytes")
        name, size = HEAD.unpack_from(content, at)
        kind = name.rstrip(b"\0").decode(errors="replace")
        at += HEAD.size
        if kind not in KINDS:
            raise UsageError(f"FILE: {kind!r} is no kind of packet; {', '.join(sorted(KINDS))}")
        if size > min(LARGEST_BYTES, len(content) - at):
            raise UsageError(f"FILE: a packet of {size} bytes does not fit")
        yield Packet(kind, content[at : at + size])
        at += size


async def send(broker: Broker, member: str, packets: Sequence[Packet]) -> list[Response]:
    """Publish ``packets`` as ``member`` (FLEET/DEVICE); return the answers to its requests.

    Raises ``BrokerError``, or ``TimeoutError`` if an answer is missing after ``WAIT_S``.
    """
    topic, answers = f"{ROOT}/{member}", asyncio.Queue[bytes]()

    def hear(_: str, payload: bytes, __: int) -> None:
        answers.put_nowait(payload)

    async with BrokerClient(broker, member, hear, session_s=0) as client:
        await client.listen(f"{topic}/{INFERRED}")
        for packet in packets:
            retain = packet.kind in RETAINED_KINDS
            await client.post(f"{topic}/{packet.kind}", packet.payload, retain=retain)
        asked = sum(packet.kind == INFER for packet in packets)
        async with asyncio.timeout(WAIT_S):
            messages = [await answers.get() for _ in range(asked)]
    return [response_from_message(pb.InferResponse.FromString(one)) for one in messages]


async def desired(broker: Broker, member: str) -> bytes:
    """Return the retained desired state of ``member``; empty if there is none."""
    found: asyncio.Queue[bytes] = asyncio.Queue()

    def hear(_: str, payload: bytes, __: int) -> None:
        found.put_nowait(payload)

    async with BrokerClient(broker, member, hear, session_s=0) as client:
        await client.listen(f"{ROOT}/{member}/{MessageKind.DESIRED.value}")
        with suppress(TimeoutError):
            async with asyncio.timeout(RETAINED_WITHIN_S):
                return await found.get()
    return b""


class Action(str, Enum):
    """The direction of the relay."""

    SEND = "send"
    DESIRED = "desired"


@app.command()
def carry(
    action: Annotated[
        Action, typer.Argument(help="Direction: **send** to the broker, or **desired** back.")
    ],
    file: Annotated[
        Path, typer.Argument(help="File of the board's packets: to send, or to write.")
    ],
    fleet: Annotated[str, typer.Option(help="Name of the fleet.")],
    device: Annotated[str, typer.Option(help="Name of the board in the fleet.")],
    broker: Annotated[str, typer.Option(help="mqtt://HOST:PORT or mqtts://...")],
    password: Annotated[
        str | None, typer.Option(envvar="TAPER_BROKER_PASSWORD", help="Password for the broker.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="Certificates to trust (PEM).")] = None,
) -> None:
    """Relay packets between a board's file and a broker."""
    try:
        member = f"{check_name(fleet, '--fleet')}/{check_name(device, '--device')}"
    except ValueError as error:
        raise UsageError(str(error)) from None
    where = parse_broker(broker, member if password else None, password, ca)
    if action is Action.DESIRED:
        file.write_bytes(asyncio.run(desired(where, member)))
        return
    packets = list(read_packets(file.read_bytes()))
    for response in asyncio.run(send(where, member, packets)):
        text = response.failure.message if response.failure else response.answers[0].label
        typer.echo(f"{response.id}: {text}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake is one line and its exit status."""
    run_command(app, arguments)


if __name__ == "__main__":
    main()
