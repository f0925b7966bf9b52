"""Layers behave as torch users expect: copies, states, modes, half precision, autocast."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import nn

from shared.layers import (
    IncompleteBinaryConv2d,
    IncompleteBinaryLinear,
    IncompleteConv2d,
    IncompleteDepthwiseSeparableConv2d,
    IncompleteLinear,
    SlimmableBatchNorm,
)

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: IncompleteLinear(8, 6), (4, 8)),
    "binary linear": (lambda: IncompleteBinaryLinear(8, 6), (4, 8)),
    "conv": (lambda: IncompleteConv2d(8, 6, 3), (4, 8, 5, 5)),
    "binary conv": (lambda: IncompleteBinaryConv2d(8, 6, 3), (4, 8, 5, 5)),
    "separable": (lambda: IncompleteDepthwiseSeparableConv2d(8, 6, 3), (4, 8, 5, 5)),
    "norm": (lambda: SlimmableBatchNorm(8), (4, 8, 5, 5)),
}


@pytest.fixture(params=LAYERS)
def made(request: pytest.FixtureRequest) -> tuple[nn.Module, torch.Tensor]:
    make, shape = LAYERS[request.param]
    torch.manual_seed(0)
    return make(), torch.randn(shape)


def test_a_copy_is_equal_and_independent(made: tuple[nn.Module, torch.Tensor]) -> None:
    layer, x = made
    layer.eval()
    other = copy.deepcopy(layer)
    assert torch.equal(layer(x), other(x))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.neg_()
    assert not torch.equal(layer(x), other(x))


def test_a_state_goes_through_a_file(made: tuple[nn.Module, torch.Tensor]) -> None:
    layer, x = made
    layer(x)  # a norm then has statistics
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(layer)
    for parameter in other.parameters():
        nn.init.uniform_(parameter)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(layer.eval()(x), other.eval()(x))


def test_modes_are_those_of_torch(made: tuple[nn.Module, torch.Tensor]) -> None:
    layer, x = made
    assert layer.training
    layer.eval()
    state = copy.deepcopy(layer.state_dict())
    layer(x)
    assert all(torch.equal(state[name], value) for name, value in layer.state_dict().items())


def test_autocast_computes_in_its_type(made: tuple[nn.Module, torch.Tensor]) -> None:
    layer, x = made
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    if not isinstance(layer, SlimmableBatchNorm):
        assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.25)
    y.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_double_precision_stays_double(made: tuple[nn.Module, torch.Tensor]) -> None:
    layer, x = made
    assert layer.double()(x.double()).dtype == torch.float64


@pytest.mark.parametrize("kind", [IncompleteLinear, IncompleteBinaryLinear])
def test_the_profile_belongs_to_the_state(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    trained, other = kind(8, 6, profile="linear"), kind(8, 6, profile="all-one")
    x = torch.randn(4, 8)
    assert not torch.equal(trained(x), other(x))
    other.load_state_dict(trained.state_dict())
    assert torch.equal(trained(x), other(x))


def test_a_state_without_a_profile_is_refused() -> None:
    layer = IncompleteLinear(8, 6)
    with pytest.raises(RuntimeError, match="coefficients"):
        layer.load_state_dict(nn.Linear(8, 6).state_dict())
