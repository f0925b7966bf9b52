"""The web server of the dashboard and its routes."""

from __future__ import annotations

import asyncio
import sys

from fastapi import Request
from nicegui import app, ui

from cloud.dashboard.device_page import one_device
from cloud.dashboard.live import LiveFleet
from cloud.dashboard.overview import overview
from cloud.dashboard.people import Access, Guard


def run(live: LiveFleet, access: Access, port: int) -> None:
    """Serve the pages until the process ends."""
    tasks: list[asyncio.Task[None]] = []

    def start() -> None:
        tasks.append(asyncio.create_task(live.run(), name="dashboard fleet"))
        if live.cloud is not None:
            tasks.append(asyncio.create_task(live.cloud.run(), name="dashboard cloud"))
        sys.stdout.write(f"dashboard on http://{access.host}:{port}\n")
        sys.stdout.flush()

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        live.trail.close()

    app.on_startup(start)
    app.on_shutdown(stop)
    app.add_middleware(Guard, access=access)

    @ui.page("/")
    def fleet_page(request: Request) -> None:
        overview(live, access.person(request.scope), prefix_of(request))

    @ui.page("/device/{name}")
    async def device_page(request: Request, name: str) -> None:
        await one_device(live, access.person(request.scope), name)

    ui.run(
        host=access.host, port=port, title="taper", favicon="◣", reload=False, show=False,
        show_welcome_message=False, uvicorn_logging_level="warning", reconnect_timeout=10,
        proxy_headers=False,  # access checks need the proxy's own address, not a header's
    )  # fmt: skip


def prefix_of(request: Request) -> str:
    """Return the path under which a proxy serves the pages, without a trailing slash."""
    given = request.headers.get("X-Forwarded-Prefix", "") + request.scope.get("root_path", "")
    return str(given).rstrip("/")
