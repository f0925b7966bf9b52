"""Close idle gRPC connections, and announce a shutdown to clients with an HTTP/2 GOAWAY frame.

gRPC for Python offers neither, so this module works on gRPC's sockets directly: they are file
descriptors of this process.

Closing: gRPC accepts connections until the process has no file descriptor left, and then neither
new clients nor the metrics endpoint can connect. ``ConnectionGuard`` closes the connections that
have been idle longest before that happens.

Shutdown: when gRPC's server stops, it cancels calls that arrive before their client has learnt of
the shutdown. ``send_goaway`` informs the clients first, so that no call is lost.
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
CROWDED = 0.85  # share of the file limit at which closing starts
ENOUGH = 0.7  # share of the file limit at which closing stops
_log = structlog.stdlib.get_logger(__name__)

# RFC 9113, section 6.8: the highest possible stream id means that no stream has been refused.
GOAWAY = struct.pack(">HBBBIII", 0, 8, 7, 0, 0, 2**31 - 1, 0)
SMALLEST_BUFFER_BYTES = 16 * 2**10  # Linux's smallest default send buffer of a TCP socket
Peer = tuple[str, int]  # address and port


def peer_address(peer: str) -> Peer | None:
    """Parse gRPC's name of a peer, ``ipv6:%5B::1%5D:50312`` -> ("::1", 50312); None for others."""
    kind, _, rest = peer.partition(":")
    host, _, port = rest.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return host.replace("%5B", "").replace("%5D", "").strip("[]"), int(port)


def raise_file_limit() -> int:
    """Raise this process's limit of open files to the hard limit; returns the resulting limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class ConnectionGuard:
    """Closes idle connections to ``port`` when the process nears ``limit`` open files."""

    def __init__(self, port: int, limit: int) -> None:
        self._port = port
        self._limit = limit

    def check(self, used_s: Mapping[str, float], in_use: Collection[str]) -> int:
        """Close idle connections if too many files are open; returns how many were closed.

        ``used_s`` maps peers, as gRPC names them, to the time of their last call; those that were
        used longest ago, or are missing, are closed first. Peers in ``in_use`` are never closed.
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


def send_goaway(port: int, encrypted: bool) -> int:
    """Stop listening on ``port`` and send GOAWAY, so that clients make new calls elsewhere.

    Calls in progress, and calls that arrive before a client has read the frame, are answered as
    usual. Returns the number of connections that got the frame: 0 if they are ``encrypted``, since
    the frame would have to be encrypted by gRPC.
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

    gRPC can only be if its last write did not fit into the socket's buffer. Returns whether all
    of ``data`` was written.
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
    """The other end of a connection to ``port``; None for any other file descriptor."""
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
    """The lowest free file descriptor, or ``limit`` if there is none.

    The system always assigns the lowest one, so this shows how many are in use.
    """
    try:
        number = os.dup(0)
    except OSError:
        return limit
    os.close(number)
    return number


def _open_files(limit: int) -> list[int]:
    try:
        return [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    except OSError:  # no descriptor is left for reading that folder
        return [number for number in range(limit) if _is_open(number)]


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
