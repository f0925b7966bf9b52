"""The public interface: its names, and every example of docs/api.md against a real server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import device
from shared import errors
from tests.support.processes import ROOT, environment, start_server

PAGE = (ROOT / "docs" / "api.md").read_text()
SECTION = re.compile(r"([^\n]+)\n.*?```python\n(.*?)```", re.DOTALL)
EXAMPLES = {
    match[1]: match[2] for section in PAGE.split("\n## ") if (match := SECTION.match(section))
}
NAMES = [
    "BundleError",
    "ClientSettings",
    "Decision",
    "FractionError",
    "InvalidRequestError",
    "LateAnswer",
    "LateError",
    "LinkError",
    "Look",
    "ModelSettings",
    "OverloadedError",
    "RequestError",
    "SampleResult",
    "Security",
    "ServerFaultError",
    "SplitClient",
    "SpoolSettings",
    "SpooledError",
    "SyncSplitClient",
    "TaperError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnknownModelError",
    "UsageError",
    "VersionMismatchError",
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with start_server() as running:
        yield running.address


def test_the_public_names_are_these() -> None:
    assert device.__all__ == NAMES


def test_every_public_name_loads_and_is_explained() -> None:
    for name in NAMES:
        assert getattr(device, name).__name__ == name
        assert name in PAGE


def test_every_error_of_a_request_can_be_caught_by_name() -> None:
    requests = {error.__name__ for error in errors.RequestError.__subclasses__()}
    assert requests <= set(NAMES)


def test_every_python_block_is_an_example() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") >= 6


@pytest.mark.parametrize("heading", EXAMPLES)
def test_examples_run(heading: str, server: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(EXAMPLES[heading].replace("localhost:50051", server))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout
