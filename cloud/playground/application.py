"""The playground's web application: the page, its files, test digits, and the way to the cloud."""

from __future__ import annotations

import asyncio
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
from cloud.playground.relay import Relay
from cloud.rpc.rest import HttpContext
from shared.bundles import DEFAULT_MODEL
from shared.data.sample import sample_digits
from shared.errors import OverloadedError, UnavailableError, UsageError

STATIC = Path(__file__).parent / "static"
BUILT = ("taper.wasm", "taper.js", "exit.js", f"{DEFAULT_MODEL}.blob", f"{DEFAULT_MODEL}.json")
LARGEST_QUESTION = 64 * 1024
LIMITS = Limits(streams=0, connections=0, calls=8, call_bytes=4 * LARGEST_QUESTION)
READY = "/v2/health/ready"
INFER = f"/v2/models/{DEFAULT_MODEL}/infer"


def check_built(folder: Path = STATIC) -> None:
    """Raise ``UsageError`` unless the device half has been built."""
    missing = [name for name in BUILT if not (folder / "device" / name).is_file()]
    if missing:
        raise UsageError(
            f"static/device: {', '.join(missing)} missing; in a checkout 'make web' makes them"
        )


def application(relay: Relay, names: tuple[str, ...]) -> ASGIApp:
    """The ASGI application; ``names`` are hosts by which it may be reached besides localhost."""
    ways = Questions(relay)
    routes = [
        Route("/", _page),
        Route("/digits", _digits),
        Route("/cloud", ways.ready),
        Route(INFER, ways.infer, methods=["POST"]),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    return Guard(Starlette(routes=routes, middleware=[Middleware(GZipMiddleware)]), names)


class Questions:
    """What the page asks the cloud; each browser has the limits of ``LIMITS``."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._access = AccessControl(LIMITS, tokens=None)

    async def ready(self, request: Request) -> Response:
        """Whether the cloud would answer now; never an error, which browsers would complain of."""
        reply = await self._ask(request, READY, b"")
        return JSONResponse({"ready": reply.status_code == 200})

    async def infer(self, request: Request) -> Response:
        """Pass a question on."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_QUESTION:
                text = f"body: more than {LARGEST_QUESTION} bytes are not allowed"
                return JSONResponse({"error": text}, 413)
        return await self._ask(request, INFER, body)

    async def _ask(self, request: Request, path: str, body: bytes) -> Response:
        try:
            with self._access.call(HttpContext(request), len(body)):
                reply = await asyncio.to_thread(self._relay.ask, request.method, path, body)
        except OverloadedError as error:
            return JSONResponse({"error": str(error)}, 429)
        except UnavailableError as error:
            return JSONResponse({"error": str(error)}, 502)
        return Response(reply.body, reply.status, media_type="application/json")


async def _page(_: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def _digits(_: Request) -> Response:
    """The shipped test digits: 200 labels, then 200 pictures of 784 bytes."""
    images, labels = sample_digits()
    return Response(
        labels.astype("u1").tobytes() + images.tobytes(), media_type="application/x-idx"
    )
