"""Sums over telemetry."""

from __future__ import annotations

from dataclasses import fields

from cloud.telemetry.sums import SUMMED, Sums, add_up, plus, sums_of, values_of
from shared.fleet.messages import Telemetry

ONE = Telemetry(
    "a", 1, 1, 0.0, period_s=2.0, answered_device=6, answered_cloud=2, failed=1, labelled=8,
    right=6, payload_bytes=40, energy_j=0.5, latency_ms=3.0, latency_max_ms=9.0, audited=2,
    agreed=1, exits_asked=8, exit_confidence=0.75, idle_j=0.25,
)  # fmt: skip
OTHER = Telemetry("a", 1, 2, 0.0, answered_cloud=1, latency_ms=5.0, latency_max_ms=5.0)


def test_the_fields_of_a_message_are_in_the_order_of_sums() -> None:
    names = [one.name for one in fields(Sums)]
    assert names == ["messages", *SUMMED, "waited_ms", "latency_max_ms", "confidence"]
    sums = sums_of(values_of(ONE))
    assert [getattr(sums, name) for name in SUMMED] == [getattr(ONE, name) for name in SUMMED]
    assert (sums.messages, sums.waited_ms, sums.latency_max_ms, sums.confidence) == (1, 24, 9, 6)


def test_adding_up_is_adding_one_by_one_and_the_largest_is_kept() -> None:
    both = add_up([ONE, OTHER])
    assert both == sums_of(plus(values_of(ONE), values_of(OTHER)))
    assert both == add_up([add_up([ONE]), add_up([OTHER])])
    assert (both.messages, both.answered, both.latency_max_ms, both.waited_ms) == (2, 9, 9, 29)
    assert add_up([]) == Sums()
