"""Laws of incomplete layers over shapes, fractions and profiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ProfileError
from shared.fractions import channels
from shared.layers import (
    IncompleteBinaryConv2d,
    IncompleteBinaryLinear,
    IncompleteConv2d,
    IncompleteDepthwiseSeparableConv2d,
    IncompleteLinear,
    sign,
)
from shared.profiles import PROFILES, check_profile, coefficients, quantise

PROFILE = st.sampled_from(sorted(PROFILES))
FRACTION = st.floats(0.01, 1.0)
COUNT = st.integers(1, 12)
FEW = settings(max_examples=60, deadline=None)


def masked(values: torch.Tensor, n: int) -> torch.Tensor:
    kept = values.clone()
    kept[n:] = 0
    return kept


@FEW
@given(COUNT, COUNT, FRACTION, PROFILE, st.booleans())
@torch.no_grad()
def test_linear_is_the_masked_complete_product(
    inputs: int, outputs: int, fraction: float, profile: str, bias: bool
) -> None:
    layer = IncompleteLinear(inputs, outputs, bias, profile=profile).double()
    n, m = channels(fraction, inputs), channels(fraction, outputs)
    x = torch.randn(3, inputs, dtype=torch.float64)
    complete = F.linear(x * masked(layer.coefficients, n), layer.weight, layer.bias)
    torch.testing.assert_close(layer(x[:, :n], m), complete[:, :m])


@FEW
@given(COUNT, COUNT, FRACTION, PROFILE, st.integers(1, 3), st.integers(1, 2), st.integers(0, 2))
@torch.no_grad()
def test_convolution_is_the_masked_complete_product(
    inputs: int, outputs: int, fraction: float, profile: str, kernel: int, stride: int, pad: int
) -> None:
    layer = IncompleteConv2d(inputs, outputs, kernel, stride, pad, profile=profile).double()
    n, m = channels(fraction, inputs), channels(fraction, outputs)
    x = torch.randn(2, inputs, 5, 4, dtype=torch.float64)
    scaled = x * masked(layer.coefficients, n).view(-1, 1, 1)
    complete = F.conv2d(scaled, layer.weight, layer.bias, stride, pad)
    torch.testing.assert_close(layer(x[:, :n], m), complete[:, :m])


@FEW
@given(COUNT, COUNT, FRACTION, PROFILE)
@torch.no_grad()
def test_separable_is_the_masked_complete_product(
    inputs: int, outputs: int, fraction: float, profile: str
) -> None:
    layer = IncompleteDepthwiseSeparableConv2d(inputs, outputs, 3, padding=1, profile=profile)
    layer.double()
    n, m = channels(fraction, inputs), channels(fraction, outputs)
    x = torch.randn(2, inputs, 4, 4, dtype=torch.float64)
    deep = F.conv2d(x, layer.depthwise.weight, layer.depthwise.bias, padding=1, groups=inputs)
    scaled = deep * masked(layer.pointwise.coefficients, n).view(-1, 1, 1)
    complete = F.conv2d(scaled, layer.pointwise.weight, layer.pointwise.bias)
    torch.testing.assert_close(layer(x[:, :n], m), complete[:, :m])


@FEW
@given(st.integers(1, 40), COUNT, FRACTION, PROFILE)
@torch.no_grad()
def test_binary_layers_are_the_masked_complete_product_exactly(
    inputs: int, outputs: int, fraction: float, profile: str
) -> None:
    linear = IncompleteBinaryLinear(inputs, outputs, profile)
    conv = IncompleteBinaryConv2d(inputs, outputs, 3, profile=profile)
    n, m = channels(fraction, inputs), channels(fraction, outputs)
    x = torch.randint(0, 2, (2, inputs, 3, 3)).float() * 2 - 1
    kept = masked(linear.coefficients, n)
    flat = x[:, :, 0, 0]
    expected = F.linear(flat * kept, sign(linear.weight))
    assert torch.equal(linear(flat[:, :n], m), expected[:, :m])
    expected = F.conv2d(x * kept.view(-1, 1, 1), sign(conv.weight))
    assert torch.equal(conv(x[:, :n], m), expected[:, :m])


@given(PROFILE, st.integers(1, 600))
def test_profiles_are_profiles_and_stay_so_as_integers(name: str, count: int) -> None:
    values = coefficients(name, count)
    assert values.shape == (count,)
    integers = quantise(values)
    assert np.array_equal(check_profile(integers), integers)
    assert integers.max() <= 127
    assert np.array_equal(integers > 0, values > 0)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20))
def test_check_names_the_first_rise(values: list[float]) -> None:
    rises = [i for i in range(1, len(values)) if values[i] > values[i - 1]]
    if rises:
        with pytest.raises(ProfileError, match=f"index {rises[0]} "):
            check_profile(values)
    else:
        assert check_profile(values).tolist() == values
