"""The synchronous client as programs use it: opened again and again, and around a fork."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.processes import environment, start_server

HEAD = """
import os, sys
import numpy as np
from device import ClientSettings, SyncSplitClient, UsageError

image = np.zeros((28, 28, 1), np.uint8)
settings = ClientSettings(servers=(sys.argv[1],), use_exit=False)

def ask():
    with SyncSplitClient(settings) as client:
        return client.classify(image).source

def in_child(work):
    child = os.fork()
    if not child:
        try:
            print(work(), flush=True)
        except UsageError as error:
            print("UsageError:", error, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with start_server() as running:
        yield running.address


def program(body: str, server: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program with strict warnings, and gRPC's own log lines off."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", HEAD + body, server],
        capture_output=True,
        text=True,
        env={**environment(), "GRPC_VERBOSITY": "NONE"},
        timeout=60,
    )


def test_nothing_is_left_behind_however_often_a_client_is_closed(server: str) -> None:
    done = program("import gc\nfor _ in range(25):\n    ask()\n    gc.collect()", server)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_may_open_a_client_if_its_parent_has_not(server: str) -> None:
    done = program("in_child(ask)\nprint(ask())", server)
    assert done.stdout.split() == ["cloud", "cloud"], done.stderr


def test_a_child_that_was_forked_too_late_is_refused_and_its_parent_undisturbed(
    server: str,
) -> None:
    body = """
with SyncSplitClient(settings) as client:
    print(client.classify(image).source, flush=True)
    in_child(lambda: client.classify(image))
    in_child(ask)
    print(client.classify(image).source, flush=True)
"""
    done = program(body, server)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert (lines[0], lines[3]) == ("cloud", "cloud")
    assert lines[1].startswith("UsageError: the client was opened before this process was forked")
    assert lines[2].startswith("UsageError: this process was forked after it had used gRPC")
