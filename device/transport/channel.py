"""TLS settings and tokens for servers, and opening a gRPC channel."""

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
    # So that a peer that vanished without closing the connection is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # So that a new channel does not inherit the back-off of the last one.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True)
class Security:
    """TLS settings and token of a connection.

    tls               whether to use TLS
    ca                file of certificates to trust (PEM); None: those of the system
    certificate, key  the device's own files (PEM), if the server requires them
    server_name       name to expect in the server's certificate; None: that of the address
    token             sent as ``authorization: Bearer TOKEN``; without TLS only to this machine
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
        """The metadata of every call."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)


def check_addresses(servers: str | Sequence[str], security: Security) -> tuple[str, ...]:
    """Return the checked addresses; ``UsageError`` for none, or a token without TLS."""
    listed = (servers,) if isinstance(servers, str) else tuple(servers)
    if not listed:
        raise UsageError("--server: give at least one HOST:PORT")
    for address in listed:
        local = is_local(check_address(address))
        if security.token is not None and not security.tls and not local:
            raise UsageError(f"--token: would travel to {address} in the clear; add --tls")
    return listed


def open_channel(address: str, security: Security) -> grpc.aio.Channel:
    """Open a channel, which is not connected yet.

    ``UsageError`` if a certificate cannot be read, or in a process that was forked after channels
    had been opened.
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
    """Return the certificates (PEM) to trust: those of ``--ca``, by default the system's.

    None if the system has no store; gRPC then uses its built-in one. ``UsageError`` if ``--ca``
    cannot be used.
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
    # A folder of single certificates, named by the hash of their subjects.
    found = sorted(Path(paths.capath).glob("[0-9a-f]*.[0-9]"))
    return b"\n".join(path.read_bytes() for path in found) or None


_processes: set[int] = set()  # id of the process that opened channels, inherited by forks


def _check_process() -> None:
    """Raise ``UsageError`` in a forked process, where gRPC would hang."""
    _processes.add(os.getpid())
    if len(_processes) > 1:
        raise UsageError(
            "this process was forked after it had used gRPC, which does not survive that; start it "
            "by 'spawn', or fork before the first client is opened"
        )


def _pem(path: Path | None, flag: str) -> bytes | None:
    return None if path is None else read_pem(path, flag)
