"""What speaks gRPC in a process: grpc.aio in the event loop, or gRPC's C++ server beside it."""

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
    """A gRPC port."""

    @property
    def handlers(self) -> Registry:
        """Takes the services, before the start."""

    @property
    def session(self) -> Callable[[InferenceService, Any, Caller], Session]:
        """Makes what answers a stream of inference requests."""

    async def start(self) -> int | None:
        """Listen, with TLS if there is a certificate; the port, or None if it cannot be had."""

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, and end those that are under way after ``grace_s``."""

    @property
    def calls(self) -> int:
        """Inference calls that are under way and may be unknown to access control."""

    def serve(self, catalog: Catalog) -> None:
        """Answer for the models of ``catalog`` from now on."""

    def collect(self) -> None:
        """Tell access control which connections were used."""


def front_of(settings: ServerSettings, shared_port: bool, assembly: Assembly) -> Front:
    """The front that ``settings`` name; ``UsageError`` if it is not installed."""
    if settings.front is FrontKind.NATIVE:
        return NativeFront(settings, shared_port, assembly)
    return PythonFront(settings, shared_port)
