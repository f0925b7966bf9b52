"""Fixtures: the shipped bundle, the shipped digits, real server processes, real MNIST."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings

from shared.bundles import bundle_path
from shared.data.sample import sample_digits
from shared.model.bundle import Bundle, read_bundle
from tests.support.processes import Server, start_server

PAPER = "mnist-binary-paper"

# Timings never decide a test: no deadline for an example, no complaint about a slow machine.
settings.register_profile("taper", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("taper")


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The shipped bundle of the paper's network."""
    return read_bundle(bundle_path(PAPER))


@pytest.fixture(scope="session")
def digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The shipped sample: images (200, 28, 28, 1) and labels (200,)."""
    images, labels = sample_digits()
    return images[..., None], labels


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A real server process on a free loopback port, with every shipped bundle."""
    with start_server() as running:
        yield running


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder where data sets are fetched to and kept."""
    return Path(os.environ.get("TAPER_DATA", Path(__file__).parent.parent / "data"))
