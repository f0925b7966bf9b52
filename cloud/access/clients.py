"""Limits for each client: open streams, and the connections they run over."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.errors import OverloadedError


def host_of(peer: str) -> str:
    """The host part of gRPC's peer name: ``ipv4:10.0.0.7:50312`` -> ``ipv4:10.0.0.7``."""
    return peer.rsplit(":", 1)[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


@dataclass
class _ClientStreams:
    """Open streams of one client, in total and by connection."""

    connections: dict[str, int] = field(default_factory=dict)
    streams: int = 0


class ClientLimits:
    """Counts open streams and their connections by client, and refuses those over the limits."""

    def __init__(self, max_streams: int, max_connections: int) -> None:
        self._max_streams = max_streams
        self._max_connections = max_connections
        self._clients: dict[str, _ClientStreams] = {}
        self.streams = 0

    @property
    def connections(self) -> set[str]:
        """The connections with open streams."""
        return {name for held in self._clients.values() for name in held.connections}

    @property
    def clients(self) -> int:
        """Number of clients with open streams; only those take memory."""
        return len(self._clients)

    def enter(self, client: str, connection: str) -> None:
        """Count a new stream; raises ``OverloadedError`` if a limit is reached."""
        held = self._clients.get(client)
        if held is not None:
            if held.streams >= self._max_streams:
                raise OverloadedError(
                    f"server: {self._max_streams} streams at a time are allowed to one client"
                )
            full = len(held.connections) >= self._max_connections
            if full and connection not in held.connections:
                raise OverloadedError(
                    f"server: {self._max_connections} connections at a time are allowed to one "
                    "client"
                )
        else:
            held = self._clients[client] = _ClientStreams()
        held.connections[connection] = held.connections.get(connection, 0) + 1
        held.streams += 1
        self.streams += 1

    def leave(self, client: str, connection: str) -> None:
        """Uncount a stream that ``enter`` counted."""
        held = self._clients[client]
        self.streams -= 1
        held.streams -= 1
        held.connections[connection] -= 1
        if not held.connections[connection]:
            del held.connections[connection]
        if not held.streams:
            del self._clients[client]
