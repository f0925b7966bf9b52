"""How many threads torch uses in a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def few_threads(count: int = 1) -> Iterator[None]:
    """Threads wait for each other longer than small networks take; puts back what was set."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)
