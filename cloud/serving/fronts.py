"""The two implementations of a gRPC port: grpc.aio in the event loop, or gRPC's C++ server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from cloud.access.control import Caller
from cloud.models.catalog import Catalog
from cloud.rpc.call import Registry
from cloud.rpc.service import InferenceService
from cloud.rpc.servicer import Session
from cloud.serving.assembly import Assembly
from cloud.serving.native_front import NativeFront
from cloud.serving.python_front import PythonFront
from cloud.settings import FrontKind, ServerSettings


class Front(Protocol):
    """A gRPC port of a server process."""

    @property
    def handlers(self) -> Registry:
        """The registry for the services' handlers, to be filled before ``start``."""

    @property
    def session(self) -> Callable[[InferenceService, Any, Caller], Session]:
        """A function that makes the ``Session`` of a stream of inference requests."""

    async def start(self) -> int | None:
        """Listen, with TLS if there is a certificate; returns the port, or None if it is taken."""

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, and end those in progress after ``grace_s`` seconds."""

    @property
    def calls(self) -> int:
        """Number of inference calls in progress that access control may not know of."""

    def serve(self, catalog: Catalog) -> None:
        """Serve the models of ``catalog`` from now on."""

    def collect(self) -> None:
        """Report to access control which connections have been used."""


def front_of(settings: ServerSettings, shared_port: bool, assembly: Assembly) -> Front:
    """Make the front that ``settings`` name; ``UsageError`` if it is not installed."""
    if settings.front is FrontKind.NATIVE:
        return NativeFront(settings, shared_port, assembly)
    return PythonFront(settings, shared_port)
