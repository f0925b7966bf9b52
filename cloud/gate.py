"""Who may come in: the token that is shown, the streams that one client may hold, the drain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from cloud.clients import ClientLimits, host_of
from cloud.security import Tokens
from shared.errors import UnavailableError

Context = grpc.aio.ServicerContext[Any, Any]

GOING_AWAY = "server: is going away; ask another one, or this one a little later"


class Gate:
    """Lets calls in. ``draining`` is set when the server is about to stop."""

    def __init__(self, limits: ClientLimits, tokens: Tokens | None) -> None:
        self._limits = limits
        self._tokens = tokens
        self.draining = asyncio.Event()

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return self._limits.streams

    def caller(self, context: Context) -> str:
        """Who calls: the token's owner, or the host; ``UnauthenticatedError``."""
        if self._tokens is None:
            return host_of(context.peer())
        metadata = dict(context.invocation_metadata() or ())
        return self._tokens.owner(metadata.get("authorization"))

    @contextmanager
    def stream(self, context: Context) -> Iterator[str]:
        """Let a stream in while the block runs; yields who opened it.

        Raises ``UnauthenticatedError``, ``OverloadedError`` or, in a drain, ``UnavailableError``.
        """
        if self.draining.is_set():
            raise UnavailableError(GOING_AWAY)
        caller = self.caller(context)
        connection = context.peer()
        self._limits.enter(caller, connection)
        try:
            yield caller
        finally:
            self._limits.leave(caller, connection)
