"""Debian packages that a test needs beside Python."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec

import pytest

from tests.support.processes import ROOT


def need(group: str, *programs: str) -> None:
    """Install a group of ``scripts/system-deps`` unless ``programs`` are there.

    Where nothing may be installed the test is skipped; under CI=true it fails.
    """
    if all(shutil.which(program) for program in programs):
        return
    done = subprocess.run([ROOT / "scripts/system-deps", group], capture_output=True, text=True)
    if done.returncode:
        _leave_out(done.stderr.strip())


def need_native_front() -> None:
    """Skip the tests of a module where the native front was not built; under CI=true they fail."""
    if find_spec("cloud.native._front") is None:
        _leave_out("the native front was not built: scripts/system-deps front, then install taper")


def _leave_out(missing: str) -> None:
    """Skip the test, or the module at whose top this is called; under CI=true fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing, allow_module_level=True)
