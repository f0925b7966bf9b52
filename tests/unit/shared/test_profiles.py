from __future__ import annotations

import numpy as np
import pytest

from shared import profiles
from shared.errors import ProfileError
from shared.profiles import (
    PROFILES,
    ProfileRange,
    check_profile,
    check_ranges,
    coefficients,
    composite,
    parse_ranges,
    quantise,
    register,
)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "PROFILES", dict(PROFILES))


def test_the_paper_s_formulas() -> None:
    np.testing.assert_allclose(coefficients("all-one", 3), [1, 1, 1])
    np.testing.assert_allclose(coefficients("harmonic", 4), [1, 1 / 2, 1 / 3, 1 / 4])
    np.testing.assert_allclose(coefficients("linear", 4), [1, 3 / 4, 2 / 4, 1 / 4])
    np.testing.assert_allclose(coefficients("half-exp", 6), [1, 1, 1, 1, np.exp(-1), np.exp(-2)])
    np.testing.assert_allclose(coefficients("staircase", 20), [1] * 8 + [2 / 3] * 8 + [1 / 3] * 4)


def test_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ProfileError, match=r"'nosuch' is unknown.*all-one.*staircase"):
        coefficients("nosuch", 4)
    with pytest.raises(ProfileError, match="at least 1"):
        coefficients("linear", 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 0.5, 0.6, 0.7], "index 2 holds 0.6, more than 0.5"),
        ([1, 0.5, -0.1, -0.2], "index 2 holds -0.1"),
        ([float("nan"), 1], "index 0 holds nan"),
        ([1, float("inf")], "index 1 holds inf"),
        ([], "non-empty"),
        ([[1, 1]], "non-empty"),
    ],
)
def test_a_user_s_profile_is_checked(values: list[float], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        check_profile(values)


@pytest.mark.usefixtures("registry")
def test_users_register_profiles() -> None:
    register("square", lambda count: np.linspace(1, 0, count) ** 2)
    np.testing.assert_allclose(coefficients("square", 3), [1, 0.25, 0])
    with pytest.raises(ProfileError, match="taken"):
        register("linear", lambda count: np.ones(count))
    with pytest.raises(ProfileError, match="rising over 2 channels: index 1"):
        register("rising", lambda count: np.arange(count, dtype=float))
    with pytest.raises(ProfileError, match="gives 1 coefficients for 2"):
        register("short", lambda count: np.ones(1))


def test_a_list_is_a_profile_interpolated_over_the_channels() -> None:
    np.testing.assert_allclose(coefficients("1,0.5,0", 5), [1, 0.75, 0.5, 0.25, 0])
    with pytest.raises(ProfileError, match="index 1 holds 2"):
        coefficients("1,2", 5)
    with pytest.raises(ProfileError, match="not a list of numbers"):
        coefficients("1,x", 5)


def test_ranges_share_coefficients() -> None:
    ranges = parse_ranges("0-0.3:all-one,0.3-1:linear")
    assert ranges == (ProfileRange(0, 0.3, "all-one"), ProfileRange(0.3, 1, "linear"))
    expected = np.concatenate([np.ones(3), coefficients("linear", 10)[3:]])
    np.testing.assert_allclose(composite(ranges, 10), expected)
    with pytest.raises(ProfileError, match=r"ranges: index 3 holds 0\.7"):
        composite(parse_ranges("0-0.3:harmonic,0.3-1:linear"), 10)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0-0.5:linear,0.4-1:linear", "overlaps"),
        ("0.5-1:linear,0-0.5:linear", "gap above 0"),
        ("0-0.5:linear,0.2-0.5:linear,0.5-1:linear", "overlaps or precedes"),
        ("0-0.3:linear,0.3-0.2:linear", "does not ascend"),
        ("0-0.3:linear,0.4-1:linear", "gap above 0.3"),
        ("0-0.3:linear", "must end at 1"),
        ("0-1.5:linear", "within 0 to 1"),
        ("0-1:nosuch", "known profiles"),
        ("0-1", "not of the form"),
        ("0..1:linear", "not of the form"),
        ("nan-1:linear", "does not ascend"),
    ],
)
def test_wrong_ranges_are_refused(text: str, message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        parse_ranges(text)
    with pytest.raises(ProfileError, match="none"):
        check_ranges([])


def test_quantised_profiles_are_small_integers() -> None:
    assert quantise(coefficients("all-one", 5)).tolist() == [1] * 5
    assert quantise(coefficients("linear", 4)).tolist() == [4, 3, 2, 1]
    assert quantise(coefficients("half-exp", 40)).min() == 1
    assert quantise([0.0, 0.0]).tolist() == [0, 0]
