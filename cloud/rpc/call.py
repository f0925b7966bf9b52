"""One gRPC call: identify the caller, answer, and turn refusals into a status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, Protocol

import grpc

from cloud.access.control import UNKNOWN_CALLER, AccessControl, Caller, Context
from cloud.rpc.service import InferenceService, status_of
from shared.errors import OverloadedError, RequestError, UnavailableError

Method = Callable[[Any, Context], Awaitable[Any]]
PUSHBACK_KEY = "grpc-retry-pushback-ms"
RETRY_AFTER_DRAIN_MS = 100


class Registry(Protocol):
    """A server that handlers can be registered with: grpc.aio's, or that of the native front."""

    def add_generic_rpc_handlers(
        self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]
    ) -> None:
        """Register handlers."""


async def answer_unary(
    service: InferenceService,
    access: AccessControl,
    context: Context,
    data: bytes,
    answer: Callable[[Caller], Awaitable[bytes]],
) -> bytes:
    """Answer an inference call with request ``data`` by ``answer(caller)``, and count the outcome.

    A refusal ends the call with its status.
    """
    caller = UNKNOWN_CALLER
    try:
        with access.call(context, len(data)) as caller:
            answered = await answer(caller)
    except RequestError as error:
        service.count_refusal(error, caller, len(data))
        await refuse(context, error)
    service.count_answer(len(data), len(answered))
    return answered


def gated(access: AccessControl, method: Method) -> Method:
    """Wrap a unary method so that it answers only calls that ``access`` admits."""

    async def guarded(request: Any, context: Context) -> Any:
        try:
            with access.call(context):
                return await method(request, context)
        except RequestError as error:
            await refuse(context, error)

    return guarded


async def refuse(context: Context, error: RequestError) -> NoReturn:
    """End a call with the status of ``error``; the trailer says when to try again."""
    wait_ms = 0
    if isinstance(error, OverloadedError):
        wait_ms = error.retry_after_ms
    elif isinstance(error, UnavailableError):
        wait_ms = RETRY_AFTER_DRAIN_MS
    trailing = ((PUSHBACK_KEY, str(wait_ms)),) if wait_ms else ()
    await context.abort(status_of(error), str(error), trailing)
