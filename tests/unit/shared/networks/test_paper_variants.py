"""The research code's networks: structure, fractions drawn for each block, and their state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shared.fractions import channels
from shared.layers import IncompleteConv2d
from shared.networks import Mlp, PaperBinarizedNetwork, PaperVgg16, Vgg16, single
from shared.networks.blocks import in_few_shapes
from shared.networks.cost import calls


def small_vgg(profile: str = "linear") -> PaperVgg16:
    torch.manual_seed(0)
    return PaperVgg16(1, 3, single(profile), groups=((5, 6), (7, 8)), features=9).eval()


def test_vgg_has_its_dropouts_and_complete_linear_layers() -> None:
    network = PaperVgg16(3, 10, single("linear"))
    dropouts = [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)]
    assert dropouts == [0.3, *([0.4] * 7), 0.5, 0.5]
    assert network.truncated == 12
    half = {call.name: (call.x[1], call.y[1]) for call in calls(network, (3, 32, 32), 0.5)}
    assert half["first.0.conv"] == (3, 32)
    assert half["middle.11.conv"] == (256, 512)
    assert half["middle.13.linear"] == (512, 512)
    assert half["last.0.linear"] == (512, 10)


def test_binarynet_truncates_the_second_convolution_of_the_device_alone() -> None:
    network = PaperBinarizedNetwork((1, 28, 28), 10, single("linear")).eval()
    seen = {
        call.name: (call.x[1:], call.y[1:])
        for call in calls(network, (1, 28, 28), 0.5)
        if "norm" not in call.name
    }
    assert seen == {
        "first.0.conv1": ((1, 28, 28), (4, 28, 28)),
        "first.0.conv2": ((4, 28, 28), (8, 28, 28)),
        "middle.0.conv1": ((8, 27, 27), (32, 27, 27)),
        "middle.0.conv2": ((32, 27, 27), (32, 27, 27)),
        "middle.1.conv1": ((32, 26, 26), (64, 26, 26)),
        "middle.1.conv2": ((64, 26, 26), (64, 26, 26)),
        "last.0.linear": ((64 * 25 * 25,), (10,)),
    }
    network.first[0].conv2.weight.data.fill_(3.0)  # type: ignore[union-attr, operator]
    network.settle()
    assert network.first[0].conv2.weight.max() == 1.0  # type: ignore[union-attr, operator]


def test_the_mlp_without_norms_has_biases() -> None:
    network = Mlp(16, 3, single("linear"), hidden=(4, 4), norm=False)
    assert network.norms() == []
    assert network.truncated == 1
    assert {name for name, _ in network.named_parameters() if "bias" in name} == {
        "first.0.linear.bias",
        "middle.0.linear.bias",
        "last.0.linear.bias",
    }


@torch.no_grad()
def test_every_block_can_draw_its_own_fraction() -> None:
    """Each draw equals coefficients of 0 beyond it, in that block alone; all outputs are there."""
    x = torch.randint(0, 256, (4, 1, 8, 8)).float()
    network, masked = small_vgg(), small_vgg()
    draws = (0.5, 0.9, 0.3)
    convolutions = [m for m in masked.modules() if isinstance(m, IncompleteConv2d)][1:]
    for layer, fraction in zip(convolutions, draws, strict=True):
        layer.coefficients[channels(fraction, layer.in_channels) :] = 0
    torch.testing.assert_close(network(x, draws=draws), masked(x))
    torch.testing.assert_close(network(x, draws=(1.0, 1.0, 1.0)), network(x))
    with pytest.raises(ValueError, match="2 came; 3 blocks take one"):
        network(x, draws=(0.5, 0.5))


@pytest.mark.parametrize(("n", "m"), [(3, 5), (6, 7), (1, 1)])
def test_convolutions_in_few_shapes_give_the_same_result(n: int, m: int) -> None:
    torch.manual_seed(0)
    conv = IncompleteConv2d(6, 7, 3, padding=1, bias=False)
    x = torch.randn(2, n, 5, 5, requires_grad=True)
    usual = conv(x, m)
    (usual**2).sum().backward()
    expected = [x.grad.clone(), conv.weight.grad.clone()]  # type: ignore[union-attr]
    x.grad = conv.weight.grad = None
    y = in_few_shapes(conv, x, m, multiple=4)
    torch.testing.assert_close(y, usual)
    (y**2).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close([x.grad, conv.weight.grad], expected)


@torch.no_grad()
def test_a_profile_is_part_of_the_state() -> None:
    """Weights of a linear profile, loaded into a network made as all-one, keep their profile."""
    x = torch.randint(0, 256, (4, 1, 8, 8)).float()

    def vgg(profile: str) -> Vgg16:
        return Vgg16(1, 3, single(profile), groups=((5, 6), (7,)), features=8).eval()

    linear, loaded = vgg("linear"), vgg("all-one")
    loaded.load_state_dict(linear.state_dict())
    assert torch.equal(loaded(x), linear(x))
    plain, back = vgg("all-one"), vgg("linear")
    back.load_state_dict(plain.state_dict())
    assert torch.equal(back(x), plain(x))
