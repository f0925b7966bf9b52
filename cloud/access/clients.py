"""Limits for each client: open streams, their connections, calls in progress and their bytes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import lru_cache

from shared.errors import OverloadedError

IPV6_CLIENT_BITS = 64  # a site is assigned a /64 prefix and can use any address in it


def client_of(peer: str) -> str:
    """Return the key that limits are counted by: the host of an IPv4 peer, the /64 of an IPv6 peer.

    ``peer`` is gRPC's name of the other end: ``ipv4:10.0.0.7:50312`` gives ``10.0.0.7``. A name
    that is no IP address is returned unchanged.
    """
    kind, _, rest = peer.partition(":")
    return _client_of_host(kind, rest.rpartition(":")[0]) or peer


# Without the port, as otherwise every new connection would add an entry.
@lru_cache(maxsize=4096)
def _client_of_host(kind: str, host: str) -> str | None:
    """Return the client at ``host``, None if it is no IP address."""
    host = host.replace("%5B", "").replace("%5D", "").strip("[]")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if kind == "ipv6" and isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, IPV6_CLIENT_BITS), strict=False))
    return str(address)


@dataclass(frozen=True)
class Limits:
    """The most that one client may have open at the same time."""

    streams: int
    connections: int  # connections that carry at least one stream
    calls: int
    call_bytes: int  # total size of the requests of those calls


@dataclass
class _Use:
    """What one client has open now; ``connections`` counts its streams by connection."""

    connections: dict[str, int] = field(default_factory=dict)
    streams: int = 0
    calls: int = 0
    call_bytes: int = 0


class ClientLimits:
    """Counts what each client has open and refuses what exceeds ``limits``."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients: dict[str, _Use] = {}
        self.streams = 0

    @property
    def connections(self) -> set[str]:
        """The connections with open streams."""
        return {name for use in self._clients.values() for name in use.connections}

    @property
    def clients(self) -> int:
        """Number of clients that have anything open; only those take memory."""
        return len(self._clients)

    def enter_stream(self, client: str, connection: str) -> None:
        """Count a new stream; raises ``OverloadedError`` if the client has reached a limit."""
        use = self._clients.get(client) or _Use()
        if use.streams >= self._limits.streams:
            raise _over(f"{self._limits.streams} streams")
        full = len(use.connections) >= self._limits.connections
        if full and connection not in use.connections:
            raise _over(f"{self._limits.connections} connections")
        self._clients[client] = use
        use.connections[connection] = use.connections.get(connection, 0) + 1
        use.streams += 1
        self.streams += 1

    def leave_stream(self, client: str, connection: str) -> None:
        """Undo ``enter_stream`` when a stream has ended."""
        use = self._clients[client]
        self.streams -= 1
        use.streams -= 1
        use.connections[connection] -= 1
        if not use.connections[connection]:
            del use.connections[connection]
        self._forget(client, use)

    def enter_call(self, client: str, size: int) -> None:
        """Count a call with a request of ``size`` bytes; ``OverloadedError`` at a limit."""
        use = self._clients.get(client)
        if use is None:
            use = _Use()
        elif use.calls >= self._limits.calls:
            raise _over(f"{self._limits.calls} calls")
        elif use.call_bytes + size > self._limits.call_bytes:
            raise _over(f"calls of {self._limits.call_bytes} bytes in all")
        self._clients[client] = use
        use.calls += 1
        use.call_bytes += size

    def leave_call(self, client: str, size: int) -> None:
        """Undo ``enter_call`` when a call has ended."""
        use = self._clients[client]
        use.calls -= 1
        use.call_bytes -= size
        self._forget(client, use)

    def _forget(self, client: str, use: _Use) -> None:
        if not use.streams and not use.calls:
            del self._clients[client]


def _over(limit: str) -> OverloadedError:
    return OverloadedError(f"server: {limit} at a time are allowed to one client")
