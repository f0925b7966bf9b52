"""The runner of the tests in containers, without containers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.__main__ import inside
from tests.containers.engine import Engine, EngineError

COMMAND = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
try:
    (folder / "ready").touch()
    time.sleep(60)
except KeyboardInterrupt:
    (folder / "removed").touch()
"""


@pytest.fixture
def ended_by_a_signal() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("ended_by_a_signal")
def test_a_command_removes_what_it_started_when_its_runner_is_ended(tmp_path: Path) -> None:
    def end() -> None:
        while not (tmp_path / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end, daemon=True).start()
    with pytest.raises(SystemExit):
        inside(Engine(), [sys.executable, "-c", COMMAND, str(tmp_path)])
    assert (tmp_path / "removed").exists()


def test_a_command_that_fails_is_named_with_what_it_said() -> None:
    with pytest.raises(EngineError, match=r"(?s)sh -c.*no such thing"):
        Engine().run("sh", "-c", "echo no such thing >&2; exit 3")
