"""When lost connections are told to be another client's doing."""

from __future__ import annotations

import time

import pytest

from shared.fleet.losses import LOST_TIMES, LOST_WITHIN_S, Losses


@pytest.mark.parametrize(("apart_s", "repeated"), [(1.0, True), (LOST_WITHIN_S, False)])
def test_losses_that_follow_each_other_soon_are_repeated(
    monkeypatch: pytest.MonkeyPatch, apart_s: float, repeated: bool
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    losses, found = Losses(), []
    for _ in range(LOST_TIMES):
        found.append(losses.repeated())
        now_s += apart_s
    assert found == [False] * (LOST_TIMES - 1) + [repeated]
