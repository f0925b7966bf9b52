"""The HTTP port of the REST API, on the event loop of the gRPC server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

from cloud.access.control import AccessControl
from cloud.rpc.service import InferenceService
from cloud.rpc.tensor_inference import TensorInference
from cloud.serving.address import joined
from cloud.settings import ServerSettings
from shared.errors import UsageError

START_POLL_S = 0.01


@contextlib.asynccontextmanager
async def http_port(
    settings: ServerSettings,
    service: InferenceService,
    inference: TensorInference,
    access: AccessControl,
    shared_port: bool,
) -> AsyncIterator[int | None]:
    """Serve the REST API while the block runs, if ``settings.http_port`` is set.

    Yields the port, or None. At the end, requests in progress are answered within
    ``settings.drain_seconds``. Raises ``UsageError`` if the port is unavailable or the extra
    ``http`` is not installed.
    """
    if settings.http_port is None:
        yield None
        return
    try:
        import uvicorn

        from cloud.rpc.rest import RestApi
    except ImportError:
        raise UsageError("--http-port: needs the extra 'http' (starlette and uvicorn)") from None

    class Server(uvicorn.Server):
        """A uvicorn server that leaves signals to the command."""

        def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
            return contextlib.nullcontext()

    api = RestApi(service, inference, access, settings.max_message_bytes)
    config = uvicorn.Config(
        api.application(),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=max(int(settings.drain_seconds), 1),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ssl_ca_certs=None if settings.client_ca is None else str(settings.client_ca),
        ssl_cert_reqs=ssl.CERT_NONE if settings.client_ca is None else ssl.CERT_REQUIRED,
    )
    server = Server(config)
    with _bound(settings, shared_port) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        try:
            while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event
                await asyncio.sleep(START_POLL_S)
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            await serving


def _bound(settings: ServerSettings, shared_port: bool) -> socket.socket:
    host, port = settings.host.strip("[]"), settings.http_port or 0
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"--http-port: cannot listen on {joined(host, port)} ({error.strerror})"
        ) from None
    return listener
