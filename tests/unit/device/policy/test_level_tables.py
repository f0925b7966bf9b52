"""What policies plan with: tables of the validation split, where a bundle has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from device.policy.operating_points import level_tables
from shared.bundles import bundle_path
from shared.errors import BundleError
from shared.model.bundle import VALIDATION_ACCURACY, Bundle, read_bundle

HELD = [[0.1 + 0.1 * level] * 4 for level in range(6)]


@pytest.fixture
def shipped() -> Bundle:
    """Without the tables of a validation split, as earlier releases wrote it."""
    bundle = read_bundle(bundle_path("mnist-binary"))
    extra = {k: v for k, v in bundle.metadata.extra.items() if k != VALIDATION_ACCURACY}
    extra["exit"] = {k: v for k, v in extra["exit"].items() if k != "validation_curve"}
    return replace(bundle, metadata=replace(bundle.metadata, extra=extra))


def having(bundle: Bundle, **more: Any) -> Bundle:
    extra = {**bundle.metadata.extra, **more}
    return replace(bundle, metadata=replace(bundle.metadata, extra=extra))


def test_plans_are_made_with_the_validation_split(shipped: Bundle) -> None:
    exits = shipped.metadata.extra["exit"]
    halved = [[[t, rate / 2, *more] for t, rate, *more in points] for points in exits["curve"]]
    made = having(
        shipped, **{VALIDATION_ACCURACY: HELD, "exit": {**exits, "validation_curve": halved}}
    )
    for level, (held, test) in enumerate(
        zip(level_tables(made), level_tables(shipped), strict=True)
    ):
        assert held.accuracy == HELD[level][-1]
        assert held.curve[0].rate == test.curve[0].rate / 2
        assert test.accuracy == shipped.metadata.accuracy[level][-1]


@pytest.mark.parametrize("table", [[], HELD[1:], [[0.5] * 3] * 6, "x", [["a"] * 4] * 6, None])
def test_a_wrong_table_is_one_line(shipped: Bundle, table: object) -> None:
    with pytest.raises(BundleError, match="its validation_accuracy cannot be read"):
        level_tables(having(shipped, **{VALIDATION_ACCURACY: table}))
