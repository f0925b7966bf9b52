"""A server with the interface of grpc.aio's, for calls that the native front leaves to Python."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from cloud.rpc.native_call import Kind, NativeContext

if TYPE_CHECKING:
    from cloud.native._front import Event, Front

_log = structlog.stdlib.get_logger(__name__)


class NativeServer:
    """Runs handlers, in the event loop, for the calls that ``front`` does not answer in C++."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._calls: dict[int, tuple[NativeContext, asyncio.Task[None]]] = {}

    def add_generic_rpc_handlers(
        self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]
    ) -> None:
        """Register handlers, as grpc.aio's server does."""
        self._handlers.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Do nothing: generated code also registers through ``add_generic_rpc_handlers``."""

    def listen(self) -> None:
        """Begin to handle events of the front."""
        asyncio.get_running_loop().add_reader(self._front.fileno(), self._take_events)

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, and end those in progress after ``grace_s`` seconds."""
        await asyncio.to_thread(self._front.stop, grace_s)
        asyncio.get_running_loop().remove_reader(self._front.fileno())
        tasks = [task for _, task in self._calls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._calls.clear()

    def _take_events(self) -> None:
        for event in self._front.take_events():
            if event[0] == Kind.CALL:
                self._begin(event)
                continue
            if event[0] == Kind.REFUSED:
                _log_refusal(event)
                continue
            found = self._calls.get(event[1])
            if found is None:
                continue
            context, task = found
            if event[0] == Kind.ENDED:
                del self._calls[event[1]]
                task.cancel()
            else:
                context.take(event)

    def _begin(self, event: Event) -> None:
        _, number, data, call, _ = event
        if call is None:
            raise ValueError("a new call comes with its object")
        context = NativeContext(call, data)
        task = asyncio.get_running_loop().create_task(self._run(context), name=context.method)
        self._calls[number] = (context, task)

    async def _run(self, context: NativeContext) -> None:
        try:
            await self._handle(context)
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            context.finish(grpc.StatusCode.CANCELLED)
        except Exception as error:  # noqa: BLE001 - as in grpc.aio, only the call fails
            _log.exception("a handler failed", method=context.method)
            context.finish(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}")

    async def _handle(self, context: NativeContext) -> None:
        handler = self._handler_of(context)
        if handler is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        context.parse = handler.request_deserializer or context.parse
        context.serialise = handler.response_serializer or context.serialise
        if handler.request_streaming:
            request = context.messages()
        elif (request := await context.only_message()) is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.CANCELLED)
        if not handler.response_streaming:
            context.respond(await handler.unary_unary(request, context))
            return
        method = handler.stream_stream if handler.request_streaming else handler.unary_stream
        responses = method(request, context)
        if inspect.isasyncgen(responses):
            async for response in responses:
                await context.write(response)
        else:
            await responses
        context.finish(grpc.StatusCode.OK)

    def _handler_of(self, context: NativeContext) -> Any:
        details = _Details(context.method, context.invocation_metadata())
        found = (handlers.service(details) for handlers in self._handlers)
        return next((handler for handler in found if handler is not None), None)


def _log_refusal(event: Event) -> None:
    _, number, why, _, named = event
    client, code = named or ("", "0")
    status = next(one.name for one in grpc.StatusCode if one.value[0] == int(code))
    _log.debug("refused", request=number, client=client, status=status, why=why.decode())


@dataclass(frozen=True)
class _Details(grpc.HandlerCallDetails):
    """Method and metadata of a call, by which gRPC chooses a handler."""

    method: str
    invocation_metadata: Any
