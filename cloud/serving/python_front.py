"""The Python front: a gRPC port served by grpc.aio in the event loop."""

from __future__ import annotations

import grpc

from cloud.access.security import certificates_of
from cloud.models.catalog import Catalog
from cloud.rpc.call import Registry
from cloud.rpc.stream import StreamSession
from cloud.serving.address import joined
from cloud.settings import ServerSettings


class PythonFront:
    """The server of grpc.aio."""

    def __init__(self, settings: ServerSettings, shared_port: bool) -> None:
        self._settings = settings
        self._server = grpc.aio.server(options=_options(settings, shared_port))

    session = StreamSession

    @property
    def handlers(self) -> Registry:
        """The registry for the services' handlers."""
        return self._server

    async def start(self) -> int | None:
        """Listen, with TLS if there is a certificate; returns the port, or None if it is taken."""
        address = joined(self._settings.host, self._settings.port)
        certificates = certificates_of(self._settings)
        try:
            if certificates is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, certificates.credentials())
        except RuntimeError:
            return None
        await self._server.start()
        return port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, and end those in progress after ``grace_s`` seconds."""
        await self._server.stop(grace_s)

    @property
    def calls(self) -> int:
        """Return 0: access control knows every call."""
        return 0

    def serve(self, catalog: Catalog) -> None:
        """Do nothing: handlers read the service's catalog."""

    def collect(self) -> None:
        """Do nothing: access control sees every call."""


def _options(settings: ServerSettings, shared_port: bool) -> list[tuple[str, int]]:
    """gRPC's channel arguments: message size, streams, keep-alive."""  # noqa: D403 - its name
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        # Otherwise a second server started on the port by mistake would get half the requests.
        ("grpc.so_reuseport", int(shared_port)),
        ("grpc.max_concurrent_streams", settings.max_streams_per_client),
        # Detect connections whose peer is gone, and disconnect clients that ping without end.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 3),
    ]
