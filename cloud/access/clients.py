"""Who calls, and how much of the server one caller may hold at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.errors import OverloadedError


def host_of(peer: str) -> str:
    """The host in gRPC's name of a peer: ``ipv4:10.0.0.7:50312`` -> ``ipv4:10.0.0.7``."""
    return peer.rsplit(":", 1)[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


@dataclass
class _Held:
    """What one client holds: its open streams, by connection."""

    connections: dict[str, int] = field(default_factory=dict)
    streams: int = 0


class ClientLimits:
    """Counts streams and the connections that they run over, by client."""

    def __init__(self, max_streams: int, max_connections: int) -> None:
        self._max_streams = max_streams
        self._max_connections = max_connections
        self._held: dict[str, _Held] = {}
        self.streams = 0

    def enter(self, client: str, connection: str) -> None:
        """A stream was opened; ``OverloadedError`` if it may not be."""
        held = self._held.get(client)
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
            held = self._held[client] = _Held()
        held.connections[connection] = held.connections.get(connection, 0) + 1
        held.streams += 1
        self.streams += 1

    def leave(self, client: str, connection: str) -> None:
        """A stream that had entered is closed."""
        held = self._held[client]
        self.streams -= 1
        held.streams -= 1
        held.connections[connection] -= 1
        if not held.connections[connection]:
            del held.connections[connection]
        if not held.streams:
            del self._held[client]
