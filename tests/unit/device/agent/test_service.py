"""What systemd and journald are told."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path

import pytest

from device.agent.service import JournalFormatter, notify, report, watchdog_s


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.settimeout(60)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    return listening


async def test_a_start_and_signs_of_life(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    working = True
    with systemd:
        task = asyncio.create_task(report(lambda: working, lambda: "fleet/pi: connected"))
        heard = [await asyncio.to_thread(systemd.recv, 1000) for _ in range(3)]
        assert heard[0] == b"READY=1"
        assert heard[1] == heard[2] == b"STATUS=fleet/pi: connected\nWATCHDOG=1"
        working = False  # systemd starts it anew when the signs stay away
        await asyncio.to_thread(systemd.recv, 1000)
        assert b"WATCHDOG" not in await asyncio.to_thread(systemd.recv, 1000)
        task.cancel()


def test_without_systemd_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nothing/here")
    assert not notify("READY=1")


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [("2000000", None, 2.0), ("2000000", "1", None), ("", None, None), ("x", None, None)],
)
def test_the_watchdog_of_another_process_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str | None, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", pid or str(os.getpid()))
    assert watchdog_s() == seconds


def test_the_journal_gets_priorities_and_no_time() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "two\nlines", (), None)
    assert JournalFormatter("%(message)s").format(record) == "<4>two\n<4>lines"
