"""Access to the dashboard: users and roles from the headers of a trusted proxy."""

from __future__ import annotations

import getpass
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from shared.errors import UsageError
from shared.loopback import is_loopback

USER = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Role(str, Enum):
    """What a person may do: a viewer only looks, an operator changes settings too."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True)
class Person:
    """The user of a page."""

    name: str
    role: Role

    @property
    def may_set(self) -> bool:
        """Whether the person may change settings."""
        return self.role is Role.OPERATOR


class ForbiddenError(Exception):
    """A request that must not be answered; the message says why."""


@dataclass(frozen=True)
class Access:
    """The rules of access to the dashboard that listens on ``host``.

    If ``header`` is None, every user of this machine is an operator. With ``own_network`` so is
    everybody who can reach ``host``, for a container whose port is published to one machine only.
    Otherwise a proxy puts the user's name into ``header`` and the role into ``role_header``. Both
    are trusted only in requests from the addresses in ``proxies``; if there are none, from this
    machine.
    """

    host: str
    header: str | None = None
    role_header: str = "X-Taper-Role"
    proxies: tuple[str, ...] = ()
    own_network: bool = False

    def check(self) -> None:
        """Raise ``UsageError`` for rules that would admit everybody."""
        for name in (self.header, self.role_header):
            if name is not None and not HEADER.fullmatch(name):
                raise UsageError(f"--trust-header, --role-header: {name!r} is no header's name")
        if self.header is None and not is_loopback(self.host) and not self.own_network:
            raise UsageError(
                f"--host: {self.host} can be reached by others, who could set the fleet; put a "
                "proxy with passwords in front and name its header with --trust-header"
            )

    def person(self, scope: Scope) -> Person:
        """Return who sent the request of an ASGI ``scope``; ``ForbiddenError`` if not allowed."""
        host = self._one(scope, "host") or ""
        origin = self._one(scope, "origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise ForbiddenError("the request comes from the page of another site")
        if self.header is None:
            # DNS rebinding: another site's name may point to this machine and must be refused.
            asked = urlsplit(f"//{host}").hostname or ""
            if asked != self.host and not is_loopback(asked):
                raise ForbiddenError(f"this is not {host[:100]}")
            return Person(getpass.getuser(), Role.OPERATOR)
        peer = (scope.get("client") or ("",))[0]
        if not (peer in self.proxies if self.proxies else is_loopback(peer)):
            raise ForbiddenError("this page is reached through its proxy only")
        name, role = self._one(scope, self.header), self._one(scope, self.role_header)
        if name is None or not USER.fullmatch(name):
            raise ForbiddenError("the proxy has not said who you are")
        try:
            return Person(name, Role(role))
        except ValueError:
            raise ForbiddenError(f"{name} is neither viewer nor operator") from None

    @staticmethod
    def _one(scope: Scope, name: str) -> str | None:
        """Return the value of a header; None if it is missing; ``ForbiddenError`` if repeated."""
        wanted = name.lower().encode()
        found = [value for key, value in scope.get("headers", ()) if key.lower() == wanted]
        if len(found) > 1:
            raise ForbiddenError(f"{name} is there twice")
        return found[0].decode("latin-1") if found else None


class Guard:
    """ASGI middleware that refuses requests which ``access`` does not allow."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], access: Access):
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403, close a WebSocket, or pass the request on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            self._access.person(scope)
        except ForbiddenError as error:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008})
                return
            text = f"{error}\n".encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": text})
            return
        await self._app(scope, receive, send)
