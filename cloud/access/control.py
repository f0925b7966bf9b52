"""Access control of inference calls: tokens, streams and connections of each client, the drain."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from cloud.access.clients import ClientLimits, host_of
from cloud.access.connections import POLL_S, ConnectionGuard, raise_file_limit
from cloud.access.security import Tokens
from shared.errors import UnavailableError

if TYPE_CHECKING:  # an extra that need not be installed
    import opentelemetry.context

    from cloud.observability.tracing import Traces

REMEMBERED = 65_536  # connections whose last use is known
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
        self._calls = 0
        self._last_s = -math.inf
        self._used_s: OrderedDict[str, float] = OrderedDict()  # by connection
        self.draining = asyncio.Event()

    @property
    def streams(self) -> int:
        """Number of open streams."""
        return self._limits.streams

    @property
    def in_flight(self) -> int:
        """Number of calls and streams that are under way."""
        return self._calls + self._limits.streams

    @property
    def quiet_s(self) -> float:
        """Seconds since the last call or stream began or ended; 0 while one is under way."""
        return 0.0 if self.in_flight else time.monotonic() - self._last_s

    @contextmanager
    def call(self, context: Context) -> Iterator[Caller]:
        """Count a call as in flight while the block runs; yields the caller.

        Raises ``UnauthenticatedError``.
        """
        self._calls += 1
        try:
            yield self._caller(context)
        finally:
            self._calls -= 1
            self._last_s = time.monotonic()

    def _caller(self, context: Context) -> Caller:
        connection = context.peer()
        self._use(connection)
        trace = None if self._traces is None else self._traces.parent(context)
        if self._tokens is None:
            return Caller(host_of(connection), trace)
        metadata = dict(context.invocation_metadata() or ())
        return Caller(self._tokens.owner(metadata.get("authorization")), trace)

    @contextmanager
    def stream(self, context: Context) -> Iterator[Caller]:
        """Count a stream against its client's limits while the block runs; yields the caller.

        Raises ``UnauthenticatedError``, ``OverloadedError``, or ``UnavailableError`` in a drain.
        """
        if self.draining.is_set():
            raise UnavailableError(DRAINING)
        caller = self._caller(context)
        connection = context.peer()
        self._limits.enter(caller.name, connection)
        try:
            yield caller
        finally:
            self._limits.leave(caller.name, connection)
            self._last_s = time.monotonic()

    async def guard_connections(self, port: int) -> None:
        """Close idle connections whenever open files run short, for ever."""
        guard = ConnectionGuard(port, raise_file_limit())
        while True:
            await asyncio.sleep(POLL_S)
            guard.check(self._used_s, self._limits.connections)

    def _use(self, connection: str) -> None:
        """Remember when a connection was used last, for as many as may be open."""
        self._used_s[connection] = time.monotonic()
        self._used_s.move_to_end(connection)
        if len(self._used_s) > REMEMBERED:
            self._used_s.popitem(last=False)
