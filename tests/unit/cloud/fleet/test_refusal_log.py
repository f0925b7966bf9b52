"""What is said and counted of a flood of refused messages."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from cloud.fleet.refusal_log import LINES_A_SECOND, MOST_NAMES, OTHER, RefusalLog, count


def test_a_flood_is_a_few_lines_and_a_number(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr("cloud.fleet.refusal_log.time.monotonic", lambda: now_s[0])
    refusals = RefusalLog()
    with caplog.at_level(logging.WARNING):
        for number in range(1000):
            refusals.warn(f"number {number}")
        assert len(caplog.messages) == LINES_A_SECOND
        now_s[0] += 1
        refusals.warn("the next")
    left_out = 1000 - LINES_A_SECOND
    assert caplog.messages[-2:] == [f"{left_out} more messages were refused", "the next"]


def test_names_from_messages_take_no_room_without_end() -> None:
    counts: Counter[str] = Counter()
    for number in range(10 * MOST_NAMES):
        count(counts, f"field-{number}")
    count(counts, "field-0")
    assert len(counts) == MOST_NAMES + 1
    assert (counts["field-0"], counts[OTHER]) == (2, 9 * MOST_NAMES)
