"""More than a real server can do: it narrows before it refuses, and comes back."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from shared.bundles import DEFAULT_MODEL, bundle_path
from shared.model.bundle import read_bundle
from shared.protocol.codec import Encoding
from tests.benchmarks.flood import Flood, token_file
from tests.benchmarks.overload import SAMPLES, capacity, recovery
from tests.benchmarks.serving import bodies
from tests.support.processes import start_server

pytestmark = pytest.mark.alone


def test_server_narrows_and_recovers(tmp_path: Path) -> None:
    bundle = read_bundle(bundle_path(DEFAULT_MODEL))
    top = len(bundle.architecture.cloud_levels) - 1
    requests = bodies(bundle, SAMPLES, Encoding.RAW)
    with start_server("--token-file", str(token_file(tmp_path)), "--slo-ms", "50") as server:
        able = capacity(server.address, requests)
        with contextlib.closing(Flood(server.address, requests)) as flood:
            loud = flood.send(4 * able, 3.0)
            flood.drain(loud, 20.0)
            calm = flood.send(0.1 * able, 8.0)
            flood.drain(calm, 20.0)
    assert min(level for _, level in loud.levels) < top
    assert loud.answered > 0
    assert calm.refused == 0
    assert recovery(calm, top) is not None
    assert loud.answered + loud.refused == loud.sent  # nothing is lost
    assert calm.answered == calm.sent
