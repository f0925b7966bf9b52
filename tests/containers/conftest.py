"""The engine with its images, and one deployment for all tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.containers.__main__ import VARIABLE
from tests.containers.engine import Engine
from tests.containers.stack import Stack, stack

KIND = os.environ.get(VARIABLE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.alone)
            item.add_marker(pytest.mark.timeout(900))
            if KIND is None:
                item.add_marker(pytest.mark.skip(reason="needs built images: make containers"))


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine that ``python -m tests.containers`` found or started."""
    return Engine(own=KIND == "own")


@pytest.fixture(scope="session")
def deployed(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(engine, tmp_path_factory.mktemp("stack")) as running:
        yield running
