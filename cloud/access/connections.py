"""What gRPC has no call for: closing idle connections, and asking clients to go elsewhere.

Its sockets belong to this process, so they can be found and used here. gRPC accepts connections
until no file descriptor is left, and then neither new clients nor the metrics endpoint get one: the
connections that idle longest are closed before that. And when gRPC's server stops, it cancels the
calls that reach it before its clients know: here they are told first.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import socket
import struct
import termios
from collections.abc import Collection, Mapping
from pathlib import Path

import structlog

POLL_S = 0.5
CROWDED = 0.85  # share of the limit at which connections are closed
ENOUGH = 0.7  # share of the limit at which closing stops
_log = structlog.stdlib.get_logger(__name__)

# HTTP/2 (RFC 9113, 6.8): a graceful GOAWAY says that no stream was refused so far.
GOAWAY = struct.pack(">HBBBIII", 0, 8, 7, 0, 0, 2**31 - 1, 0)
SMALLEST_BUFFER_BYTES = 16 * 2**10  # what Linux gives a TCP socket to send from, at least
Peer = tuple[str, int]  # address and port


def peer_address(peer: str) -> Peer | None:
    """Address and port in gRPC's name of a peer: ``ipv6:%5B::1%5D:50312`` -> ("::1", 50312)."""
    kind, _, rest = peer.partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return host.replace("%5B", "").replace("%5D", "").strip("[]"), int(port)


def raise_file_limit() -> int:
    """Raise this process's limit of open files as far as it may; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class ConnectionGuard:
    """Closes idle connections to the port ``port`` when ``limit`` open files come near."""

    def __init__(self, port: int, limit: int) -> None:
        self._port = port
        self._limit = limit

    def check(self, used_s: Mapping[str, float], in_use: Collection[str]) -> int:
        """Close idle connections if there are too many open files; returns how many.

        ``used_s`` has the time of the last call of each connection, ``in_use`` those that stay.
        """
        if _lowest_free(self._limit) < CROWDED * self._limit:
            return 0
        files = _open_files(self._limit)
        last_used_s = {peer_address(peer): used for peer, used in used_s.items()}
        busy = {peer_address(peer) for peer in in_use}
        idle = [
            (last_used_s.get(peer, 0.0), number)
            for number in files
            if (peer := _peer(number, self._port)) is not None and peer not in busy
        ]
        closed = sorted(idle)[: max(len(files) - int(ENOUGH * self._limit), 0)]
        for _, number in closed:
            _shut_down(number)
        _log.warning(
            "idle connections were closed", closed=len(closed), open=len(files), limit=self._limit
        )
        return len(closed)


def send_away(port: int, encrypted: bool) -> int:
    """Stop listening on ``port`` and ask its clients to make new calls elsewhere.

    Calls that are under way, or come before the clients have read it, are answered as usual.
    Returns how many were asked; none if the connections are ``encrypted``.
    """
    asked = 0
    for number in _open_files(limit=65_536):
        if _listens(number, port):
            _shut_down(number)
        elif not encrypted and _peer(number, port) is not None:
            asked += _write_whole(number, GOAWAY)
    return asked


def _write_whole(number: int, data: bytes) -> bool:
    """Write ``data`` to a socket unless gRPC might be in the middle of a frame.

    It can only be if its last write did not fit into the socket's buffer.
    """
    with contextlib.suppress(OSError):
        unsent = struct.unpack("i", fcntl.ioctl(number, termios.TIOCOUTQ, bytes(4)))[0]
        if unsent < SMALLEST_BUFFER_BYTES // 4:
            return os.write(number, data) == len(data)
    return False


def _listens(number: int, port: int) -> bool:
    with contextlib.suppress(OSError):
        found = socket.socket(fileno=number)
        try:
            listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            return bool(listens) and found.getsockname()[1:2] == (port,)
        finally:
            found.detach()
    return False


def _peer(number: int, port: int) -> Peer | None:
    """The other end of a connection to ``port`` of this process; None for other files."""
    with contextlib.suppress(OSError):
        found = socket.socket(fileno=number)
        try:
            if found.getsockname()[1:2] == (port,):
                host, peer_port = found.getpeername()[:2]
                return host.removeprefix("::ffff:"), peer_port
        finally:
            found.detach()
    return None


def _shut_down(number: int) -> None:
    with contextlib.suppress(OSError):
        found = socket.socket(fileno=number)
        try:
            found.shutdown(socket.SHUT_RDWR)
        finally:
            found.detach()


def _lowest_free(limit: int) -> int:
    """The lowest free file descriptor, or ``limit`` if there is none; files fill from below."""
    try:
        number = os.dup(0)
    except OSError:
        return limit
    os.close(number)
    return number


def _open_files(limit: int) -> list[int]:
    try:
        return [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    except OSError:  # there is no descriptor left to read that folder with
        return [number for number in range(limit) if _is_open(number)]


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
