"""Who may come in: the token that is shown, the streams that one client may hold, the drain."""

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

GOING_AWAY = "server: is going away; ask another one, or this one a little later"


class Caller(NamedTuple):
    """Who calls, a token's owner or a host, and the trace that the call belongs to."""

    name: str
    trace: opentelemetry.context.Context | None = None


NOBODY = Caller("")  # of a call that was not let in


class Gate:
    """Lets calls in. ``draining`` is set when the server is about to stop."""

    def __init__(
        self, limits: ClientLimits, tokens: Tokens | None, traces: Traces | None = None
    ) -> None:
        self._limits = limits
        self._tokens = tokens
        self._traces = traces
        self.draining = asyncio.Event()

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return self._limits.streams

    def caller(self, context: Context) -> Caller:
        """Who calls; ``UnauthenticatedError``."""
        trace = None if self._traces is None else self._traces.parent(context)
        if self._tokens is None:
            return Caller(host_of(context.peer()), trace)
        metadata = dict(context.invocation_metadata() or ())
        return Caller(self._tokens.owner(metadata.get("authorization")), trace)

    @contextmanager
    def stream(self, context: Context) -> Iterator[Caller]:
        """Let a stream in while the block runs; yields who opened it.

        Raises ``UnauthenticatedError``, ``OverloadedError`` or, in a drain, ``UnavailableError``.
        """
        if self.draining.is_set():
            raise UnavailableError(GOING_AWAY)
        caller = self.caller(context)
        connection = context.peer()
        self._limits.enter(caller.name, connection)
        try:
            yield caller
        finally:
            self._limits.leave(caller.name, connection)
