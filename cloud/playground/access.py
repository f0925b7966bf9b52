"""Access checks of the playground: the Host and Origin headers of each request.

The Host header must be a name of this machine: otherwise another site could point its own name here
(DNS rebinding) and read answers. The Origin header must be this page's: otherwise another site
could send requests.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_METHODS = ("GET", "HEAD")
POLICY = (
    "default-src 'none'",
    "script-src 'self' 'wasm-unsafe-eval'",
    "style-src 'self'",
    "img-src 'self' blob:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)
HEADERS = {
    "Cache-Control": "no-cache",  # the browser asks each time whether a file has changed
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """ASGI middleware: passes allowed requests to ``inner``, adds security headers to every answer.

    ``names`` are hosts that are allowed besides localhost and numeric addresses. ``broker`` is the
    URL of a WebSocket that the page may connect to besides its own host.
    """

    def __init__(
        self, inner: ASGIApp, names: Sequence[str] = (), broker: str | None = None
    ) -> None:
        self._inner = inner
        connect = "connect-src 'self'" if broker is None else f"connect-src 'self' {broker}"
        self._headers = {**HEADERS, "Content-Security-Policy": "; ".join((*POLICY, connect))}
        self._names = frozenset({"localhost", *names})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
            await send(message)

        wrong = self._refusal(scope)
        answer = self._inner if wrong is None else PlainTextResponse(wrong, 403)
        await answer(scope, receive, with_policy)

    def _refusal(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._known(host):
            return "host: this page does not answer to that name; --name allows it\n"
        own = f"{scope['scheme']}://{host}"
        if scope["method"] not in SAFE_METHODS and headers.get("origin") != own:
            return "origin: only this page may ask\n"
        return None

    def _known(self, host: str) -> bool:
        bare = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        bare = bare.strip("[]").lower()
        if bare in self._names:
            return True
        try:
            ipaddress.ip_address(bare)
        except ValueError:
            return False
        return True
