"""The service ``grpc.reflection.v1alpha.ServerReflection``, behind access control."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from cloud.access.control import AccessControl, Context
from cloud.rpc.call import Registry, refuse
from shared.errors import RequestError

SERVICE: str = reflection.SERVICE_NAME


class ReflectionServicer(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """Lists the services ``names`` and their messages."""

    def __init__(self, names: Iterable[str], access: AccessControl) -> None:
        super().__init__(names)
        self._access = access

    def add_to(self, server: Registry) -> None:
        """Register the method with ``server``."""
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(self, server)

    async def ServerReflectionInfo(  # noqa: N802 - the protocol's name
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        """Answer a stream of questions about services."""
        try:
            with self._access.stream(context):
                async for answer in super().ServerReflectionInfo(request_iterator, context):
                    yield answer
        except RequestError as error:
            await refuse(context, error)
