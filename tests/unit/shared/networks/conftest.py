from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.torch_threads import few_threads


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of such small networks."""
    with few_threads():
        yield
