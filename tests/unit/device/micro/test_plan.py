"""Which plan of looks goes into a board's model.h."""

from __future__ import annotations

import pytest

from device.micro.plan import BoardLook, board_looks, plan_constant, plan_for
from shared.bundles import bundle_path
from shared.errors import UsageError
from shared.model.bundle import DEVICE_GROUPS, read_bundle
from shared.model.exits import NEVER_MARGIN, read_calibration
from shared.model.looks import cheapest, plans_on_test

DIGITS = read_bundle(bundle_path("mnist-binary"), DEVICE_GROUPS)
ALL = range(len(DIGITS.architecture.device_levels))


def test_without_an_accuracy_it_is_one_look_by_the_bundles_exit_threshold() -> None:
    calibration = read_calibration(DIGITS)
    assert calibration is not None
    assert plan_for(DIGITS, ALL, None) == (BoardLook(2, calibration.margins[2]),)
    assert plan_for(DIGITS, [0, 5], None) == (BoardLook(1, calibration.margins[5]),)


def test_the_plan_is_the_cheapest_that_is_right_often_enough() -> None:
    plans = plans_on_test(DIGITS)
    for wanted in sorted({plan.accuracy for plan in plans}):
        assert plan_for(DIGITS, ALL, wanted) == board_looks(DIGITS, ALL, cheapest(plans, wanted))


def test_only_levels_that_are_kept_are_planned() -> None:
    first, second = plan_for(DIGITS, [1, 5], 0.5)
    assert (first.level, second.level) == (0, 1)
    assert second.stays_from == NEVER_MARGIN
    with pytest.raises(UsageError, match="--min-accuracy: mnist-binary has no plan of two looks"):
        plan_for(DIGITS, [2], 0.5)


def test_the_constant_has_every_look() -> None:
    looks = (BoardLook(0, 5, 3, 9), BoardLook(1, NEVER_MARGIN))
    assert plan_constant(looks) == (
        "static const taper_plan taper_looks = {\n"
        "    2,\n"
        "    {{0, INT64_C(5), INT64_C(3), UINT64_C(9)},\n"
        f"     {{1, INT64_C({NEVER_MARGIN}), INT64_C(0), UINT64_C(0)}}}}}};"
    )
