"""The ternary activation: values and gradients of two signs, padding of the layer behind it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.layers import IncompleteBinaryConv2d, sign, ternary_sign


def test_values_at_and_around_the_thresholds() -> None:
    x = torch.tensor([[-1.0], [-0.5], [-0.4], [0.0], [0.4], [0.5], [1.0]])
    found = ternary_sign(x, torch.tensor([0.5]))
    # Both signs of 0 are +1, so each threshold belongs to the value above it.
    assert found[:, 0].tolist() == [-2, 0, 0, 0, 0, 2, 2]


def test_width_zero_is_twice_the_sign() -> None:
    x = torch.randn(4, 3, 2, 2)
    assert torch.equal(ternary_sign(x, torch.zeros(3)), 2 * sign(x))


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4, 4)])
def test_gradients_are_those_of_the_two_signs(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape) * 2
    pull = torch.randn(shape)
    view = (1, 3) + (1,) * (len(shape) - 2)
    gradients = []
    for composed in (False, True):
        x = nn.Parameter(start.clone())
        delta = nn.Parameter(torch.tensor([0.0, 0.5, 1.5]))
        d = delta.view(view)
        y = sign(x - d) + sign(x + d) if composed else ternary_sign(x, delta)
        (y * pull).sum().backward()  # type: ignore[no-untyped-call]
        gradients.append((x.grad, delta.grad))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_type_of_the_input_is_kept(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3).to(dtype).requires_grad_()
    delta = nn.Parameter(torch.full((3,), 0.5))
    y = ternary_sign(x, delta)
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert y.dtype == dtype
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert delta.grad is not None
    assert delta.grad.dtype == torch.float32


@torch.no_grad()
def test_border_counts_as_two_low_bits() -> None:
    layer = IncompleteBinaryConv2d(3, 2, 3, padding=1, profile="linear", padding_value=-2)
    inside = IncompleteBinaryConv2d(3, 2, 3, profile="linear")
    inside.load_state_dict(layer.state_dict())
    x = torch.randint(-1, 2, (2, 3, 4, 4)).float() * 2
    framed = torch.full((2, 3, 6, 6), -2.0)
    framed[:, :, 1:5, 1:5] = x
    assert torch.equal(layer(x), inside(framed))
