"""Record changes that people make with commands in the store's audit trail."""

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
async def audited(
    store: str | None, site: Site, who: str, target: str, what: str
) -> AsyncIterator[Callable[[str], None]]:
    """Record a change before the block makes it, and its result afterwards.

    Yields a function that takes the result. Without ``store``, the recorder's default file is used
    if it is in the working directory; otherwise nothing is recorded. Raises ``StoreError`` or
    ``UsageError``, before the block runs, if the store cannot be written.
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
    """The recorder's default file, if it is here and the extra ``fleet`` is installed."""
    return STORE if Path(STORE).is_file() and find_spec("sqlalchemy") else None
