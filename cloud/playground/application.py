"""The playground's web application: the page, its files, test digits, and the cloud's relay."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from cloud.access.clients import Limits
from cloud.access.control import AccessControl
from cloud.playground.access import Guard
from cloud.playground.enrolment import Enrolments
from cloud.playground.relay import Relay
from cloud.rpc.rest import HttpContext
from shared.bundles import DEFAULT_MODEL
from shared.data.sample import sample_digits
from shared.errors import (
    InvalidRequestError,
    OverloadedError,
    UnauthenticatedError,
    UnavailableError,
    UsageError,
)

STATIC = Path(__file__).parent / "static"
BUILT = ("taper.wasm", "taper.js", "exit.js", f"{DEFAULT_MODEL}.blob", f"{DEFAULT_MODEL}.json")
LIBRARY = "mqtt.js"
LARGEST_QUESTION = 64 * 1024
LIMITS = Limits(streams=0, connections=0, calls=8, call_bytes=4 * LARGEST_QUESTION)
WRONG_CODE_S = 1.0
READY = "/v2/health/ready"
INFER = f"/v2/models/{DEFAULT_MODEL}/infer"


def check_built(with_fleet: bool, folder: Path = STATIC) -> None:
    """Raise ``UsageError`` unless ``make web`` has built what the page (and a fleet) needs."""
    wanted = (*BUILT, LIBRARY) if with_fleet else BUILT
    missing = [name for name in wanted if not (folder / "device" / name).is_file()]
    if missing:
        raise UsageError(
            f"static/device: {', '.join(missing)} missing; in a checkout 'make web' makes them"
        )


def application(
    relay: Relay, names: tuple[str, ...], membership: Membership | None = None
) -> ASGIApp:
    """Build the ASGI application; ``names`` are hosts that may reach it besides localhost."""
    ways = Questions(relay, membership)
    broker = None if membership is None else membership.websockets
    routes = [
        Route("/", _page),
        Route("/digits", _digits),
        Route("/cloud", ways.ready),
        Route("/settings", ways.settings),
        Route("/enrol", ways.enrol, methods=["POST"]),
        Route(INFER, ways.infer, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Guard(Starlette(routes=routes, middleware=[Middleware(GZipMiddleware)]), names, broker)


@dataclass(frozen=True)
class Membership:
    """A fleet that browsers may join: the URL of its broker's WebSocket, and unused codes."""

    websockets: str
    enrolments: Enrolments


class Questions:
    """Handlers of the page's requests; each browser has the limits of ``LIMITS``."""

    def __init__(self, relay: Relay, membership: Membership | None) -> None:
        self._relay = relay
        self._membership = membership
        self._access = AccessControl(LIMITS, tokens=None)

    async def ready(self, request: Request) -> Response:
        """Return whether the cloud server is ready; no HTTP error, which browsers would log."""
        reply = await self._ask(request, READY, b"")
        return JSONResponse({"ready": reply.status_code == 200})

    async def infer(self, request: Request) -> Response:
        """Pass an inference request on to the cloud server."""
        try:
            return await self._ask(request, INFER, await _body(request))
        except InvalidRequestError as error:
            return JSONResponse({"error": str(error)}, 413)

    async def settings(self, _: Request) -> Response:
        """Return the settings that the page needs."""
        broker = None if self._membership is None else self._membership.websockets
        return JSONResponse({"websockets": broker})

    async def enrol(self, request: Request) -> Response:
        """Exchange a one-time code for an identity; a wrong code delays the answer by a second."""
        try:
            with self._access.call(HttpContext(request)):
                return JSONResponse(await self._redeem(await _body(request)))
        except (InvalidRequestError, UnauthenticatedError) as error:
            return JSONResponse({"error": str(error)}, 403)
        except OverloadedError as error:
            return JSONResponse({"error": str(error)}, 429)

    async def _redeem(self, body: bytes) -> dict[str, str]:
        try:
            if self._membership is None:
                raise UnauthenticatedError("code: this playground has no fleet")
            try:
                code = json.loads(body)["code"]
            except (ValueError, TypeError, LookupError):
                raise InvalidRequestError("code: is missing") from None
            return self._membership.enrolments.redeem(str(code))
        except UnauthenticatedError:
            await asyncio.sleep(WRONG_CODE_S)
            raise

    async def _ask(self, request: Request, path: str, body: bytes) -> Response:
        try:
            with self._access.call(HttpContext(request), len(body)):
                reply = await asyncio.to_thread(self._relay.ask, request.method, path, body)
        except OverloadedError as error:
            return JSONResponse({"error": str(error)}, 429)
        except UnavailableError as error:
            return JSONResponse({"error": str(error)}, 502)
        return Response(reply.body, reply.status, media_type="application/json")


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_QUESTION:
            raise InvalidRequestError(f"body: more than {LARGEST_QUESTION} bytes are not allowed")
    return body


async def _page(_: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def _digits(_: Request) -> Response:
    """Return the shipped test digits: 200 bytes of labels, then 200 pictures of 784 bytes."""
    images, labels = sample_digits()
    return Response(
        labels.astype("u1").tobytes() + images.tobytes(), media_type="application/x-idx"
    )
