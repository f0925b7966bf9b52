"""TLS and tokens of servers, and opening a gRPC channel."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from device.transport.addresses import check_address, is_local
from shared.certificates import check_authorities, check_pair, read_pem
from shared.errors import UsageError
from shared.protocol.messages import DEFAULT_MAX_MESSAGE_BYTES

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
    server_name  the name to expect in the server's certificate; None: that of the address
    token        sent as ``authorization: Bearer TOKEN``; never without TLS, except to this machine
    """

    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if not self.tls and (self.ca or self.certificate or self.key or self.server_name):
            raise UsageError("--tls: must be given with --ca, --cert, --key and --server-name")
        if (self.certificate is None) != (self.key is None):
            raise UsageError("--cert and --key: must be given together")
        if self.token is not None and not re.fullmatch(r"[\x21-\x7e]+", self.token):
            raise UsageError("--token: must be visible ASCII characters without spaces")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Metadata of every call."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)


def check_addresses(servers: str | Sequence[str], security: Security) -> tuple[str, ...]:
    """The addresses, each checked; ``UsageError`` for none, or for a token in the clear."""
    listed = (servers,) if isinstance(servers, str) else tuple(servers)
    if not listed:
        raise UsageError("--server: give at least one HOST:PORT")
    for address in listed:
        local = is_local(check_address(address))
        if security.token is not None and not security.tls and not local:
            raise UsageError(f"--token: would travel to {address} in the clear; add --tls")
    return listed


def open_channel(address: str, security: Security) -> grpc.aio.Channel:
    """A channel that is not connected yet.

    ``UsageError`` for a certificate that cannot be read, and in a process that was forked after it
    had opened channels.
    """
    _check_process()
    options = [*OPTIONS]
    if is_local(address):
        options.append(("grpc.enable_http_proxy", 0))
    if not security.tls:
        return grpc.aio.insecure_channel(address, options=options)
    if security.server_name is not None:
        options.append(("grpc.ssl_target_name_override", security.server_name))
    if security.certificate is not None and security.key is not None:
        check_pair(("--cert", security.certificate), ("--key", security.key))
    credentials = grpc.ssl_channel_credentials(
        trusted_authorities(security),
        _pem(security.key, "--key"),
        _pem(security.certificate, "--cert"),
    )
    return grpc.aio.secure_channel(address, credentials, options=options)


def trusted_authorities(security: Security) -> bytes | None:
    """The certificates (PEM) to trust: those of ``--ca``, else the system's.

    None if the system has no store; gRPC then trusts the one that it brings along.
    ``UsageError`` for a ``--ca`` that cannot be used.
    """
    if security.ca is not None:
        given = read_pem(security.ca, "--ca")
        check_authorities(given, "--ca")
        return given
    paths = ssl.get_default_verify_paths()  # respects SSL_CERT_FILE and SSL_CERT_DIR
    if paths.cafile is not None:
        return Path(paths.cafile).read_bytes()
    if paths.capath is None:
        return None
    # A folder of single certificates, each under the hash of its name.
    found = sorted(Path(paths.capath).glob("[0-9a-f]*.[0-9]"))
    return b"\n".join(path.read_bytes() for path in found) or None


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
