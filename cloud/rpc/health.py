"""The service ``grpc.health.v1.Health``.

A change of status only sets an event. Each watcher waits for it in its own task, so a client that
does not read cannot delay the others. Watchers end when the server drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from cloud.access.control import AccessControl, Context
from cloud.rpc.call import Registry, refuse
from shared.errors import RequestError

SERVICE: str = health.SERVICE_NAME
Status = health_pb2.HealthCheckResponse
LAST_WRITE_S = 0.5  # longest wait to write a watcher's last status when the server drains


class HealthServicer:
    """The serving status of the server (under the empty name), its services and its models."""

    def __init__(self, access: AccessControl) -> None:
        self._access = access
        self._serving: frozenset[str] = frozenset()
        self._known: set[str] = {""}
        self._changed = asyncio.Event()
        self._draining = asyncio.Event()

    def add_to(self, server: Registry) -> None:
        """Register the methods with ``server``."""
        request, response = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(
                self.check, request.FromString, response.SerializeToString
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                self.watch, request.FromString, response.SerializeToString
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    def set_serving(self, names: Iterable[str]) -> None:
        """Make ``names`` SERVING, and all other names that were ever passed in NOT_SERVING."""
        self._serving = frozenset(names)
        self._known |= self._serving
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def drain(self) -> None:
        """Make everything NOT_SERVING and end all watchers."""
        self.set_serving(())
        self._draining.set()

    async def check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Any:
        """Answer with the status of a name; NOT_FOUND if it is unknown."""
        try:
            with self._access.probe(context):
                known = request.service in self._known
        except RequestError as error:
            await refuse(context, error)
        if not known:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return Status(status=self._status(request.service))

    async def watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """Stream the status of a name: at once, and whenever it changes."""
        try:
            with self._access.probe(context):
                await self._watch(request.service, context)
        except RequestError as error:
            await refuse(context, error)

    async def _watch(self, name: str, context: Context) -> None:
        last = None
        while not self._draining.is_set():
            changed = self._changed
            status = self._status(name)
            if status != last:
                if not await self._write(context, status):
                    return
                last = status
            await changed.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WRITE_S):
                await context.write(Status(status=Status.NOT_SERVING))

    def _status(self, name: str) -> int:
        if name in self._serving:
            return int(Status.SERVING)
        return int(Status.NOT_SERVING if name in self._known else Status.SERVICE_UNKNOWN)

    async def _write(self, context: Context, status: int) -> bool:
        """Write a status; False if the server drains before the client has room for it."""
        writing = asyncio.ensure_future(context.write(Status(status=status)))
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait((writing, draining), return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
            return writing.done()
        finally:
            writing.cancel()
            draining.cancel()
