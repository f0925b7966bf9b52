"""Addresses to listen on: formatting them, reserving a port, explaining why a port fails."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from shared.errors import UsageError


def joined(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def bind_error(host: str, port: int) -> str:
    """Return the system's message for failing to listen on the port."""
    try:
        with _bound(host, port, reuse_port=False):
            return "unknown reason"
    except OSError as error:
        return error.strerror or str(error)


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Bind a port for workers to share, without listening on it; yields its number.

    Raises ``UsageError`` if another program listens on it: sharing would split the requests.
    """
    try:
        if port:
            with _bound(host, port, reuse_port=False):
                pass  # no other program listens there
        with _bound(host, port, reuse_port=True) as held:
            yield int(held.getsockname()[1])
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise UsageError(
            f"--host/--port: cannot listen on {joined(host, port)} ({reason})"
        ) from None


@contextlib.contextmanager
def _bound(host: str, port: int, reuse_port: bool) -> Iterator[socket.socket]:
    bare = host.strip("[]")
    family, kind, protocol, _, address = socket.getaddrinfo(
        bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as held:
        # So that connections in TIME_WAIT do not block the port; a listener still does.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
        yield held
