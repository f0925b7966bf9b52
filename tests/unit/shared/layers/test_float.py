"""Incomplete float layers against naive loops, the masked complete product, and gradcheck."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from shared.layers import (
    IncompleteConv2d,
    IncompleteDepthwiseSeparableConv2d,
    IncompleteLinear,
    SlimmableBatchNorm,
)
from shared.layers.conv import incomplete_conv2d


def naive_linear(x: Tensor, layer: IncompleteLinear, m: int) -> Tensor:
    y = torch.zeros(len(x), m, dtype=x.dtype)
    for b, j in itertools.product(range(len(x)), range(m)):
        y[b, j] = layer.bias[j] if layer.bias is not None else 0.0
        for i in range(x.shape[1]):
            y[b, j] += layer.coefficients[i] * layer.weight[j, i] * x[b, i]
    return y


def naive_conv(x: Tensor, layer: IncompleteConv2d, m: int) -> Tensor:
    assert not isinstance(layer.padding, str)
    (sh, sw), (ph, pw), (dh, dw) = layer.stride, layer.padding, layer.dilation
    kh, kw = layer.kernel_size
    inside, outside = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    padded = F.pad(x, (pw, pw, ph, ph))
    height = (padded.shape[2] - dh * (kh - 1) - 1) // sh + 1
    width = (padded.shape[3] - dw * (kw - 1) - 1) // sw + 1
    y = torch.zeros(len(x), m, height, width, dtype=x.dtype)
    for b, j, r, c in itertools.product(range(len(x)), range(m), range(height), range(width)):
        y[b, j, r, c] = layer.bias[j] if layer.bias is not None else 0.0
        columns = inside if layer.groups > 1 else x.shape[1]
        for i, u, v in itertools.product(range(columns), range(kh), range(kw)):
            source = (j // outside) * inside + i
            pixel = padded[b, source, r * sh + u * dh, c * sw + v * dw]
            y[b, j, r, c] += layer.coefficients[source] * layer.weight[j, i, u, v] * pixel
    return y


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n", "m"), [(7, 5), (4, 5), (7, 2), (1, 1)])
@pytest.mark.parametrize("profile", ["all-one", "linear", "harmonic"])
@torch.no_grad()
def test_linear_equals_a_naive_loop(n: int, m: int, bias: bool, profile: str) -> None:
    torch.manual_seed(n * m)
    layer = IncompleteLinear(7, 5, bias, profile=profile).double()
    x = torch.randn(3, n, dtype=torch.float64)
    torch.testing.assert_close(layer(x, m), naive_linear(x, layer, m))


CONVOLUTIONS: list[tuple[dict[str, object], list[tuple[int, int]]]] = [
    ({}, [(6, 4), (3, 4), (6, 1), (1, 1)]),
    ({"stride": 2, "padding": 1}, [(6, 4), (2, 3)]),
    ({"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1)}, [(6, 4), (4, 2)]),
    ({"groups": 2, "padding": 1}, [(6, 4), (6, 2), (3, 2)]),
    ({"bias": False, "padding": 1}, [(5, 3)]),
]


@pytest.mark.parametrize(
    ("arguments", "n", "m"), [(given, n, m) for given, sizes in CONVOLUTIONS for n, m in sizes]
)
@torch.no_grad()
def test_convolution_equals_a_naive_loop(arguments: dict[str, object], n: int, m: int) -> None:
    torch.manual_seed(n * m)
    layer = IncompleteConv2d(6, 4, 3, **arguments).double()  # type: ignore[arg-type]
    x = torch.randn(2, n, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x, m), naive_conv(x, layer, m))


@torch.no_grad()
def test_separable_equals_naive_loops() -> None:
    torch.manual_seed(0)
    layer = IncompleteDepthwiseSeparableConv2d(
        5, 4, 3, stride=2, padding=1, depthwise_profile="linear"
    ).double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    between = naive_conv(x, layer.depthwise, 3)
    torch.testing.assert_close(layer(x, 2), naive_conv(between, layer.pointwise, 2))
    activated = naive_conv(between.relu(), layer.pointwise, 2)
    torch.testing.assert_close(layer(x, 2, F.relu), activated)


@pytest.mark.parametrize("stride", [1, 2])
def test_separable_follows_autocast(stride: int) -> None:
    torch.manual_seed(0)
    layer = IncompleteDepthwiseSeparableConv2d(8, 8, 3, stride=stride, padding=1)
    x = torch.randn(2, 6, 8, 8, requires_grad=True)
    exact = layer(x, 4)
    (gradient,) = torch.autograd.grad(exact.sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(x.bfloat16(), 4)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.05)
    (rough,) = torch.autograd.grad(rounded.sum(), x)
    torch.testing.assert_close(rough, gradient, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("groups", [1, 2, 6])
@torch.no_grad()
def test_truncated_convolution_equals_the_masked_complete_one(groups: int) -> None:
    layer = IncompleteConv2d(6, 6, 3, padding=1, groups=groups, bias=False).double()
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    masked = layer.coefficients.clone()
    n = 3 if groups != 6 else 4
    masked[n:] = 0
    complete = incomplete_conv2d(x, layer.weight, None, masked, padding=1, groups=groups)
    m = n if groups > 1 else 4
    torch.testing.assert_close(layer(x[:, :n], m), complete[:, :m])


def test_complete_all_one_layers_are_those_of_torch_bit_for_bit() -> None:
    torch.manual_seed(0)
    linear = IncompleteLinear(6, 4, profile="all-one")
    x = torch.randn(3, 2, 6)
    assert torch.equal(linear(x), nn.Linear.forward(linear, x))
    conv = IncompleteConv2d(4, 6, (3, 5), (2, 1), "valid", 1, 2, True, profile="all-one")
    y = torch.randn(2, 4, 8, 8)
    assert torch.equal(conv(y), nn.Conv2d.forward(conv, y))


def test_arguments_are_those_of_torch_in_their_order() -> None:
    linear = IncompleteLinear(6, 4, False, "cpu", torch.float64)
    assert linear.bias is None
    assert linear.coefficients.dtype == torch.float64
    conv = IncompleteConv2d(6, 4, 3, 2, 1, 2, 2, False, "zeros", "cpu", torch.float64)
    assert (conv.stride, conv.padding, conv.dilation, conv.groups) == ((2, 2), (1, 1), (2, 2), 2)
    assert conv.bias is None
    with pytest.raises(ValueError, match="padding_mode"):
        IncompleteConv2d(6, 4, 3, padding_mode="reflect")


def test_gradients_are_right_and_stay_inside_the_slice() -> None:
    torch.manual_seed(0)
    linear = IncompleteLinear(4, 3).double()
    conv = IncompleteConv2d(4, 3, 3, padding=1).double()
    separable = IncompleteDepthwiseSeparableConv2d(3, 3, 3, padding=1).double()
    for layer, shape in (
        (linear, (2, 3)),
        (conv, (2, 3, 4, 4)),
        (separable, (2, 2, 4, 4)),
    ):
        x = torch.randn(*shape, dtype=torch.float64, requires_grad=True)

        def run(x: Tensor, *values: Tensor, layer: nn.Module = layer) -> Tensor:
            names = [name for name, _ in layer.named_parameters()]
            given = dict(zip(names, values, strict=True))
            y: Tensor = torch.func.functional_call(layer, given, (x, 2))
            return y

        assert torch.autograd.gradcheck(run, (x, *layer.parameters()))
    linear.zero_grad()
    linear(torch.randn(5, 3, dtype=torch.float64), 2).sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad[:2, :3].all()
    assert not linear.weight.grad[2:].any()
    assert not linear.weight.grad[:, 3:].any()


def test_the_work_shrinks() -> None:
    def operations(layer: nn.Module, x: Tensor, m: int) -> int:
        with FlopCounterMode(display=False) as counter:
            layer(x, m)
        return int(counter.get_total_flops())

    conv = IncompleteConv2d(16, 16, 3, padding=1)
    x = torch.randn(1, 16, 8, 8)
    assert operations(conv, x[:, :8], 8) * 4 == operations(conv, x, 16)
    linear = IncompleteLinear(16, 16, bias=False)
    y = torch.randn(2, 16)
    assert operations(linear, y[:, :4], 4) * 16 == operations(linear, y, 16)


@pytest.mark.parametrize("bad", [0, 5])
def test_impossible_counts_are_refused(bad: int) -> None:
    linear, conv = IncompleteLinear(4, 4), IncompleteConv2d(4, 4, 1)
    with pytest.raises(ValueError, match="outputs"):
        linear(torch.zeros(1, 4), bad)
    with pytest.raises(ValueError, match="outputs"):
        conv(torch.zeros(1, 4, 1, 1), bad)
    with pytest.raises(ValueError, match="input"):
        linear(torch.zeros(1, bad))
    with pytest.raises(ValueError, match="input"):
        conv(torch.zeros(1, bad, 1, 1))


def test_groups_are_kept_whole() -> None:
    conv = IncompleteConv2d(4, 4, 1, groups=2)
    assert conv(torch.zeros(1, 2, 1, 1)).shape[1] == 2
    with pytest.raises(ValueError, match="whole groups"):
        conv(torch.zeros(1, 3, 1, 1))
    with pytest.raises(ValueError, match="whole groups"):
        conv(torch.zeros(1, 4, 1, 1), 1)


def test_slimmable_norm_is_torch_s_at_every_level_and_width() -> None:
    torch.manual_seed(0)
    norm = SlimmableBatchNorm(6, 2)
    peers = [nn.BatchNorm2d(6), nn.BatchNorm2d(4)]
    for level, peer in enumerate(peers):
        x = torch.randn(8, peer.num_features, 3, 3) * (level + 2) + level
        torch.testing.assert_close(norm(x, level), peer(x))
        norm.eval()
        peer.eval()
        torch.testing.assert_close(norm(x, level), peer(x))
        norm.train()
    assert torch.equal(norm.var[1, 4:], torch.ones(2))


def test_calibration_is_the_mean_over_batches() -> None:
    norm = SlimmableBatchNorm(3, 1).eval()
    norm.calibrating = True
    batches = [torch.randn(16, 3) for _ in range(4)]
    for batch in batches:
        norm(batch)
    torch.testing.assert_close(norm.mean[0], torch.stack([b.mean(0) for b in batches]).mean(0))
    norm.reset()
    norm(batches[0])
    torch.testing.assert_close(norm.mean[0], batches[0].mean(0))


def test_a_level_that_took_no_part_is_passed_over_by_the_optimiser() -> None:
    norm = SlimmableBatchNorm(3, 2)
    optimiser = torch.optim.SGD(norm.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    before = norm.scale[1].detach().clone(), norm.mean[1].clone()
    for _ in range(3):
        optimiser.zero_grad()
        norm(torch.randn(8, 3), 0).square().sum().backward()
        optimiser.step()
    assert torch.equal(norm.scale[1], before[0])
    assert torch.equal(norm.mean[1], before[1])
