"""Access control of all calls: tokens, limits of each client, draining."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import grpc

from cloud.access.clients import ClientLimits, Limits, client_of
from cloud.access.connections import POLL_S, ConnectionGuard, raise_file_limit
from cloud.access.security import Tokens
from shared.errors import UnauthenticatedError, UnavailableError

if TYPE_CHECKING:  # opentelemetry is an optional extra
    import opentelemetry.context

    from cloud.observability.tracing import Traces

REMEMBERED = 65_536  # connections whose time of last use is kept
FORGOTTEN_S = 60.0  # connections unused for longer all count as equally long idle
Context = grpc.aio.ServicerContext[Any, Any]

STREAM_TOO_OLD = "server: this stream is old enough; open another one"
DRAINING = "server: is shutting down; ask another server, or this one again in a moment"


class CallInfo(Protocol):
    """The parts of a gRPC context that access control reads."""

    def peer(self) -> str:
        """The other end of the connection as gRPC names it, e.g. ``ipv4:10.0.0.7:50312``."""

    def invocation_metadata(self) -> Any:
        """The call's metadata as pairs of names and values."""


class Caller(NamedTuple):
    """The client of a call.

    name   the owner of its token or, where no token is needed, its host
    trace  the trace that the call belongs to, if traces are sent
    """

    name: str
    trace: opentelemetry.context.Context | None = None


UNKNOWN_CALLER = Caller("")


class AccessControl:
    """Admits calls: identifies the caller of each and counts it against the client's limits.

    ``tokens`` are those that callers must show, ``admins`` those of callers who may load models;
    None for no tokens: anybody may call, nobody may load. ``draining`` is set before the server
    stops. A stream is ended after about ``max_stream_s`` seconds.
    """

    def __init__(
        self,
        limits: Limits,
        tokens: Tokens | None,
        traces: Traces | None = None,
        max_stream_s: float = math.inf,
        admins: Tokens | None = None,
    ) -> None:
        self._limits = ClientLimits(limits)
        self._tokens = tokens
        self._admins = admins
        self._max_stream_s = max_stream_s
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
        """Number of calls and streams in progress."""
        return self._calls + self._limits.streams

    @property
    def quiet_s(self) -> float:
        """Seconds since the last call or stream began or ended; 0 while one is in progress."""
        return 0.0 if self.in_flight else time.monotonic() - self._last_s

    @contextmanager
    def call(self, context: CallInfo, size: int = 0) -> Iterator[Caller]:
        """Admit a call with a request of ``size`` bytes while the block runs; yields the caller.

        Raises ``UnauthenticatedError``, or ``OverloadedError`` if the client is at a limit.
        """
        caller = self._caller(context)
        with self.named_call(caller, size):
            yield caller

    @contextmanager
    def named_call(self, caller: Caller, size: int = 0) -> Iterator[None]:
        """Admit a call like ``call``, for a caller whom an MQTT broker has identified."""
        self._limits.enter_call(caller.name, size)
        self._calls += 1
        try:
            yield
        finally:
            self._limits.leave_call(caller.name, size)
            self._calls -= 1
            self._last_s = time.monotonic()

    @contextmanager
    def admin(self, context: CallInfo) -> Iterator[None]:
        """Admit a call that changes what is served; raises ``UnauthenticatedError``."""
        if self._admins is None:
            raise UnauthenticatedError(
                "authorization: models are not loaded over the network here; --admin-token-file "
                "allows it"
            )
        metadata = dict(context.invocation_metadata() or ())
        owner = self._admins.owner(metadata.get("authorization"))
        self._use(context.peer())
        self._limits.enter_call(owner, 0)
        try:
            yield
        finally:
            self._limits.leave_call(owner, 0)

    @contextmanager
    def probe(self, context: CallInfo) -> Iterator[None]:
        """Admit a health check: it needs no token, and draining does not wait for it.

        Raises ``OverloadedError`` if the client has too many calls.
        """
        client = self._address(context)
        self._limits.enter_call(client, 0)
        try:
            yield
        finally:
            self._limits.leave_call(client, 0)

    @contextmanager
    def stream(self, context: CallInfo) -> Iterator[Caller]:
        """Admit a stream while the block runs; yields the caller.

        Raises ``UnauthenticatedError``, ``OverloadedError``, or ``UnavailableError`` in a drain.
        """
        if self.draining.is_set():
            raise UnavailableError(DRAINING)
        caller = self._caller(context)
        connection = context.peer()
        self._limits.enter_stream(caller.name, connection)
        try:
            yield caller
        finally:
            self._limits.leave_stream(caller.name, connection)
            self._last_s = time.monotonic()

    def stream_age_s(self) -> float:
        """Age in seconds at which to end a stream; random, so that not all end together."""
        return self._max_stream_s * random.uniform(0.9, 1.1)  # noqa: S311 - no secret

    def _caller(self, context: CallInfo) -> Caller:
        client = self._address(context)
        trace = None if self._traces is None else self._traces.parent(context)
        if self._tokens is None:
            return Caller(client, trace)
        metadata = dict(context.invocation_metadata() or ())
        return Caller(self._tokens.owner(metadata.get("authorization")), trace)

    def _address(self, context: CallInfo) -> str:
        connection = context.peer()
        self._use(connection)
        return client_of(connection)

    async def guard_connections(self, port: int) -> None:
        """Close idle connections to ``port`` whenever file descriptors run short; never returns."""
        guard = ConnectionGuard(port, raise_file_limit())
        while True:
            await asyncio.sleep(POLL_S)
            self.forget_idle(time.monotonic())
            guard.check(self._used_s, self._limits.connections)

    def forget_idle(self, now_s: float) -> int:
        """Forget connections that were used long ago; returns how many are still remembered."""
        used_s = self._used_s
        while used_s and next(iter(used_s.values())) < now_s - FORGOTTEN_S:
            used_s.popitem(last=False)
        return len(used_s)

    def used(self, connections: Iterable[str]) -> None:
        """Record that a front has answered calls on ``connections`` without this object."""
        for connection in connections:
            self._use(connection)
            self._last_s = time.monotonic()

    def token_owners(self) -> Mapping[bytes, str] | None:
        """The owners of tokens by SHA-256 digest, for a front; None if no token is needed."""
        return None if self._tokens is None else self._tokens.owners

    def _use(self, connection: str) -> None:
        """Record the last use of a connection, for at most ``REMEMBERED`` connections."""
        self._used_s[connection] = time.monotonic()
        self._used_s.move_to_end(connection)
        if len(self._used_s) > REMEMBERED:
            self._used_s.popitem(last=False)
