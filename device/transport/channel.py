"""Addresses, TLS and tokens of servers, and opening a gRPC channel."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from shared.certificates import check_authorities, check_pair, read_pem
from shared.errors import LinkError, UsageError
from shared.protocol.messages import DEFAULT_MAX_MESSAGE_BYTES

ADDRESS = re.compile(r"(?P<host>[^:\s/]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d{1,5})")
LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|\[::1\]")
OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", DEFAULT_MAX_MESSAGE_BYTES),
    # A peer that is gone without closing the connection is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A new channel must not inherit the waiting time of the last one.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True)
class Security:
    """TLS and token of a connection.

    tls          whether to use TLS at all
    ca           certificates to trust (PEM); None: those of the system
    certificate, key   the device's own (PEM), where the server asks for one
    token        sent as ``authorization: Bearer TOKEN``; never without TLS, except to this machine
    """

    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = None

    def __post_init__(self) -> None:
        if not self.tls and (self.ca or self.certificate or self.key):
            raise UsageError("--tls: must be given with --ca, --cert and --key")
        if (self.certificate is None) != (self.key is None):
            raise UsageError("--cert and --key: must be given together")
        if self.token is not None and not re.fullmatch(r"[\x21-\x7e]+", self.token):
            raise UsageError("--token: must be visible ASCII characters without spaces")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata of every call."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)


def check_address(address: str, flag: str = "--server") -> str:
    """Return ``address`` if it is HOST:PORT, else raise ``UsageError`` naming ``flag``."""
    match = ADDRESS.fullmatch(address)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise UsageError(f"{flag}: {address!r} is not allowed; give HOST:PORT, e.g. cloud:50051")
    return address


def check_addresses(servers: str | Sequence[str], security: Security) -> tuple[str, ...]:
    """The addresses, each checked; ``UsageError`` for none, or for a token in the clear."""
    listed = (servers,) if isinstance(servers, str) else tuple(servers)
    if not listed:
        raise UsageError("--server: give at least one HOST:PORT")
    for address in listed:
        match = ADDRESS.fullmatch(check_address(address))
        local = match is not None and LOOPBACK.fullmatch(match["host"])
        if security.token is not None and not security.tls and not local:
            raise UsageError(f"--token: would travel to {address} in the clear; add --tls")
    return listed


def open_channel(address: str, security: Security) -> grpc.aio.Channel:
    """A channel that is not connected yet.

    ``UsageError`` for a certificate that cannot be read, and in a process that was forked after it
    had opened channels.
    """
    _check_process()
    if not security.tls:
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    ca = _pem(security.ca, "--ca")
    if ca is not None:
        check_authorities(ca, "--ca")
    if security.certificate is not None and security.key is not None:
        check_pair(("--cert", security.certificate), ("--key", security.key))
    credentials = grpc.ssl_channel_credentials(
        ca, _pem(security.key, "--key"), _pem(security.certificate, "--cert")
    )
    return grpc.aio.secure_channel(address, credentials, options=OPTIONS)


async def connect(channel: grpc.aio.Channel, address: str, limit_s: float) -> None:
    """Wait until ``channel`` is connected; ``LinkError`` on the first failure or after ``limit_s``.

    Unlike ``channel_ready`` this does not try again: the link decides when to do that.
    """
    try:
        async with asyncio.timeout(limit_s):
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.READY:
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    raise LinkError(f"server {address}: does not accept connections")
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        raise LinkError(f"server {address}: no connection within {limit_s:g} s") from None


_processes: set[int] = set()  # the process that has opened channels; a fork inherits its number


def _check_process() -> None:
    """Refuse to use gRPC where it would hang: it does not survive a fork."""
    _processes.add(os.getpid())
    if len(_processes) > 1:
        raise UsageError(
            "this process was forked after it had used gRPC, which does not survive that; start it "
            "by 'spawn', or fork before the first client is opened"
        )


def _pem(path: Path | None, flag: str) -> bytes | None:
    return None if path is None else read_pem(path, flag)
