"""What SQLite does to programs under test: see their connections, fill their disk."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest


def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """A list that every connection opened from now on is added to."""
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def connect_and_keep(*arguments: Any, **settings: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **settings))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", connect_and_keep)
    return opened


def fill_disk(database: sqlite3.Connection) -> None:
    """Let the database grow no further: what needs a new page fails as on a full disk."""
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
