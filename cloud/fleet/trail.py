"""Changes that people make with commands, written down in the recorder's store."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from cloud.fleet.flags import STORE, Site
from shared.command import needing_extra


@asynccontextmanager
async def written_down(
    store: str | None, site: Site, who: str, target: str, what: str
) -> AsyncIterator[Callable[[str], None]]:
    """Write a change down before the block makes it, and after it the result that it names.

    Without ``store`` the recorder's file is taken if it is in this folder; else nothing is written.
    Raises ``StoreError`` or ``UsageError`` before the change if the store cannot be written.
    """
    url = store or _default()
    result = "not known"

    def done(text: str) -> None:
        nonlocal result
        result = text

    if url is None:
        yield done
        return
    with needing_extra("fleet"):
        from cloud.telemetry.trail import ChangeRecord, write_change, write_result
    change = ChangeRecord(site.fleet, time.time(), secrets.token_hex(8), who, target, what, "asked")
    await asyncio.to_thread(write_change, url, change)
    try:
        yield done
    finally:
        await asyncio.to_thread(write_result, url, replace(change, result=result))


def _default() -> str | None:
    """The recorder's file, where it is and can be written."""
    return STORE if Path(STORE).is_file() and find_spec("sqlalchemy") else None
