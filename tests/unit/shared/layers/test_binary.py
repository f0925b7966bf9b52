"""Incomplete binary layers against naive loops and the masked complete product: exact integers."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from shared.layers import IncompleteBinaryConv2d, IncompleteBinaryLinear, sign
from shared.layers.binary import incomplete_binary_conv2d
from shared.layers.leading import leading_block


def signs(*shape: int) -> Tensor:
    return torch.randint(0, 2, shape).float() * 2 - 1


def bit(weight: Tensor) -> int:
    return 1 if weight >= 0 else -1


@pytest.mark.parametrize(("n", "m"), [(9, 4), (5, 4), (9, 1), (1, 1)])
@torch.no_grad()
def test_linear_equals_a_naive_loop(n: int, m: int) -> None:
    torch.manual_seed(n)
    layer = IncompleteBinaryLinear(9, 4)
    x = signs(3, n)
    y = layer(x, m)
    for b, j in itertools.product(range(3), range(m)):
        terms = (
            int(layer.coefficients[i]) * bit(layer.weight[j, i]) * int(x[b, i]) for i in range(n)
        )
        assert y[b, j] == sum(terms)


@pytest.mark.parametrize(
    ("arguments", "n", "m"),
    [
        ({}, 5, 3),
        ({"padding": 1}, 3, 2),
        ({"stride": 2, "padding": (1, 0)}, 5, 3),
        ({"dilation": (1, 2), "padding": (0, 2)}, 4, 1),
    ],
)
@torch.no_grad()
def test_convolution_equals_a_naive_loop(arguments: dict[str, object], n: int, m: int) -> None:
    torch.manual_seed(n)
    layer = IncompleteBinaryConv2d(5, 3, 3, **arguments)  # type: ignore[arg-type]
    pair = {
        name: value if isinstance(value, tuple) else (value, value)
        for name, value in (
            ("stride", layer.stride),
            ("padding", layer.padding),
            ("dilation", layer.dilation),
        )
    }
    x = signs(2, n, 6, 6)
    y = layer(x, m)
    for b, j, r, c in itertools.product(*map(range, y.shape)):
        total = 0
        for i, u, v in itertools.product(range(n), range(3), range(3)):
            row = r * pair["stride"][0] + u * pair["dilation"][0] - pair["padding"][0]
            column = c * pair["stride"][1] + v * pair["dilation"][1] - pair["padding"][1]
            inside = 0 <= row < 6 and 0 <= column < 6
            pixel = int(x[b, i, row, column]) if inside else -1
            total += int(layer.coefficients[i]) * bit(layer.weight[j, i, u, v]) * pixel
        assert y[b, j, r, c] == total


@pytest.mark.parametrize("profile", ["all-one", "linear", "staircase", "harmonic", "half-exp"])
@torch.no_grad()
def test_truncated_equals_the_masked_complete_product(profile: str) -> None:
    layer = IncompleteBinaryConv2d(24, 6, 3, profile=profile)
    x = signs(2, 24, 5, 5)
    masked = layer.coefficients.clone()
    masked[10:] = 0
    complete = incomplete_binary_conv2d(x, layer.weight, masked)
    assert torch.equal(layer(x[:, :10], 4), complete[:, :4])


def test_straight_through_gradient() -> None:
    layer = IncompleteBinaryLinear(3, 2, profile="linear")
    with torch.no_grad():
        layer.weight[0, 0] = 2.0  # outside of [-1, 1]: no gradient
    x = signs(4, 2)
    layer(x, 1).sum().backward()
    assert layer.weight.grad is not None
    expected = torch.zeros(2, 3)
    expected[0, 1] = layer.coefficients[1] * x[:, 1].sum()
    assert torch.equal(layer.weight.grad, expected)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="outputs"):
        IncompleteBinaryLinear(4, 4)(torch.ones(1, 4), 5)
    with pytest.raises(ValueError, match="input"):
        IncompleteBinaryConv2d(4, 4, 1)(torch.ones(1, 5, 1, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_sign_is_never_zero_and_its_gradient_includes_the_bounds(dtype: torch.dtype) -> None:
    # As many values as a vector holds and more, so that all paths of torch's kernels are taken.
    values = [-2, -1.0625, -1, -0.5, -0.0, 0.0, 0.5, 1, 1.0625, 2]
    x = torch.tensor(values, dtype=dtype).repeat(13).requires_grad_()
    y = sign(x)
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert y.dtype == dtype
    assert y.tolist() == [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1] * 13
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0] * 13


@pytest.mark.parametrize(("m", "n"), [(6, 8), (6, 3), (4, 8), (1, 2)])
def test_leading_blocks_are_slices_with_their_gradient(m: int, n: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 8, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    pull = torch.randn(m, n, 3, 3).to(memory_format=torch.channels_last)
    gradients = []
    for block in (x[:m, :n], leading_block(x, m, n)):
        (gradient,) = torch.autograd.grad((block * pull).sum(), x)
        gradients.append(gradient)
    assert torch.equal(x[:m, :n], block)
    assert block.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(*gradients)
    assert gradients[1].is_contiguous(memory_format=torch.channels_last)
