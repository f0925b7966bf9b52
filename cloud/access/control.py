"""Access control of inference calls: tokens, streams and connections of each client, the drain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from cloud.access.clients import ClientLimits, host_of
from cloud.access.security import Tokens
from shared.errors import UnavailableError

if TYPE_CHECKING:  # an extra that need not be installed
    import opentelemetry.context

    from cloud.observability.tracing import Traces

Context = grpc.aio.ServicerContext[Any, Any]

DRAINING = "server: is shutting down; ask another server, or this one again in a moment"


class Caller(NamedTuple):
    """The client of a call: the owner of its token or its host, and the trace it belongs to."""

    name: str
    trace: opentelemetry.context.Context | None = None


UNKNOWN_CALLER = Caller("")


class AccessControl:
    """Identifies callers and limits their streams; ``draining`` is set before the server stops."""

    def __init__(
        self, limits: ClientLimits, tokens: Tokens | None, traces: Traces | None = None
    ) -> None:
        self._limits = limits
        self._tokens = tokens
        self._traces = traces
        self.draining = asyncio.Event()

    @property
    def streams(self) -> int:
        """Number of open streams."""
        return self._limits.streams

    def caller(self, context: Context) -> Caller:
        """The caller of a unary call; raises ``UnauthenticatedError``."""
        trace = None if self._traces is None else self._traces.parent(context)
        if self._tokens is None:
            return Caller(host_of(context.peer()), trace)
        metadata = dict(context.invocation_metadata() or ())
        return Caller(self._tokens.owner(metadata.get("authorization")), trace)

    @contextmanager
    def stream(self, context: Context) -> Iterator[Caller]:
        """Count a stream against its client's limits while the block runs; yields the caller.

        Raises ``UnauthenticatedError``, ``OverloadedError``, or ``UnavailableError`` in a drain.
        """
        if self.draining.is_set():
            raise UnavailableError(DRAINING)
        caller = self.caller(context)
        connection = context.peer()
        self._limits.enter(caller.name, connection)
        try:
            yield caller
        finally:
            self._limits.leave(caller.name, connection)
