"""The paper's networks: shapes, costs, and which parameters serve which fraction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cloud.training.paper.recipes import NETWORKS, build
from cloud.training.split.architectures import paper
from shared.errors import FractionError, ProfileError, UsageError
from shared.layers import IncompleteConv2d
from shared.model.architecture import Shape, kernel_size, output_shape
from shared.networks import (
    BinaryNet,
    IncompleteNetwork,
    Mlp,
    MobileNet,
    Scheme,
    Vgg16,
    cost,
    single,
)
from shared.networks.cost import calls
from shared.profiles import parse_ranges

SHAPES = {
    "mlp": (1, 28, 28),
    "vgg16": (3, 32, 32),
    "mobilenet": (3, 32, 32),
    "binarynet": (1, 28, 28),
    "mlp-paper": (1, 28, 28),
    "vgg16-paper": (3, 32, 32),
    "binarynet-paper": (1, 28, 28),
}
LEVELS = (0.25, 0.5, 1.0)


def make(name: str, scheme: Scheme) -> IncompleteNetwork:
    torch.manual_seed(0)
    colours, height, width = SHAPES[name]
    return build(name, Shape(height, width, colours), 10, scheme).eval()


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("name", list(NETWORKS))
@torch.no_grad()
def test_costs_equal_torch_s_flop_counter(name: str, fraction: float) -> None:
    network = make(name, single("linear"))
    with FlopCounterMode(display=False) as counter:
        logits = network(torch.zeros(1, *SHAPES[name]), fraction)
    assert logits.shape == (1, 10)
    assert counter.get_total_flops() == 2 * cost(network, SHAPES[name], fraction).macs


def test_parameter_bytes_count_weights_and_norms() -> None:
    full = make("mlp", single("linear"))
    weights = 784 * 100 + 100 * 100 + 100 * 10 + 10
    assert cost(full, SHAPES["mlp"]).parameter_bytes == 4 * weights + 2 * 100 * 8
    half = 784 * 50 + 50 * 100 + 100 * 10 + 10
    assert cost(full, SHAPES["mlp"], 0.5).parameter_bytes == 4 * half + (50 + 100) * 8
    binary = make("binarynet", single("linear"))
    bits = norms = 0
    shape = Shape(28, 28, 1)
    for stage in paper(shape, 10).stages:
        height, width = kernel_size(stage, shape)
        bits += height * width * stage.in_channels * stage.out_channels
        norms += 8 * stage.out_channels
        shape = output_shape(stage, shape)
    assert cost(binary, SHAPES["binarynet"]).parameter_bytes == bits // 8 + norms


def test_the_paper_s_structures() -> None:
    vgg = make("vgg16", single("linear"))
    convolutions = [module for module in vgg.modules() if isinstance(module, IncompleteConv2d)]
    widths = [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert [conv.out_channels for conv in convolutions] == widths
    assert convolutions[0].all_one
    assert not any(conv.all_one for conv in convolutions[1:])
    assert cost(vgg, SHAPES["vgg16"]).macs == 313_463_808
    mlp = make("mlp", single("harmonic"))
    middle = [call.x[1] for call in calls(mlp, SHAPES["mlp"], 0.3) if "linear" in call.name]
    assert middle == [784, 30, 100]
    mobile = make("mobilenet", single("linear"))
    steps = [call.y for call in calls(mobile, SHAPES["mobilenet"], 1.0) if "pointwise" in call.name]
    assert [(y[1], y[2]) for y in steps] == [
        *((64, 32), (128, 16), (128, 16)),
        *((256, 8), (256, 8), (256, 8)),
    ]


def test_an_inner_layer_costs_about_the_square_of_the_fraction() -> None:
    vgg = make("vgg16", single("linear"))
    full, half = (cost(vgg, SHAPES["vgg16"], fraction).macs for fraction in (1.0, 0.5))
    assert half / full == pytest.approx(0.25, abs=0.01)


@torch.no_grad()
def test_levels_and_ranges_choose_their_parameters() -> None:
    scheme = Scheme(parse_ranges("0-0.5:linear,0.5-1:linear"), LEVELS)
    network = Mlp(12, 3, scheme, hidden=(8, 8)).eval()
    x = torch.rand(4, 1, 3, 4) * 255
    narrow, wide = network(x, 0.4), network(x, 0.6)
    for parameter in network.last[1].parameters():
        parameter.zero_()
    assert torch.equal(network(x, 0.4), narrow)
    assert not network(x, 0.6).any()
    assert wide.any()
    assert scheme.width(0.2).level == 0
    assert scheme.width(0.25).level == 0
    assert scheme.width(0.26).level == 1
    network.middle[0].norm.scale[1].zero_()  # type: ignore[union-attr, index]
    assert not torch.equal(network(x, 0.4), narrow)
    network.inherit(1)
    torch.testing.assert_close(network.last[1].state_dict(), network.last[0].state_dict())


@pytest.mark.parametrize("fraction", [0.0, -1.0, 1.01, float("nan")])
def test_wrong_fractions_are_refused(fraction: float) -> None:
    with pytest.raises(FractionError):
        make("mlp", single("linear"))(torch.zeros(1, 1, 28, 28), fraction)


def test_wrong_schemes_are_refused() -> None:
    with pytest.raises(FractionError, match="ascend"):
        Scheme(levels=(0.5, 0.25, 1.0))
    with pytest.raises(ProfileError, match="unknown"):
        single("nosuch")
    with pytest.raises(UsageError, match="multi-profile"):
        make("binarynet", Scheme(parse_ranges("0-0.5:linear,0.5-1:linear"), (0.5, 1.0)))
    with pytest.raises(UsageError, match=r"unknown.*mlp, vgg16, mobilenet, binarynet"):
        build("nosuch", Shape(28, 28, 1), 10, single("linear"))
    with pytest.raises(UsageError, match="too small"):
        build("vgg16", Shape(28, 28, 1), 10, single("linear"))


@torch.no_grad()
def test_other_sizes_and_widths_work() -> None:
    x = torch.zeros(2, 3, 64, 64)
    groups = ((4,), (4, 8), (8,))
    vgg = Vgg16(3, 5, single("linear"), groups=groups, features=6).eval()
    assert vgg(x, 0.3).shape == (2, 5)
    # Odd maps and maps of one pixel: pooling rounds up, so that small images pass too.
    assert vgg(x[:, :, :5, :3], 0.3).shape == (2, 5)
    mobile = MobileNet(3, 5, single("linear"), stem=4, blocks=((8, 2), (8, 1))).eval()
    assert mobile(x, 0.3).shape == (2, 5)


@torch.no_grad()
def test_all_that_binary_layers_of_the_split_network_see_is_signs_and_integers() -> None:
    network = make("binarynet", single("linear"))
    x = torch.randint(0, 256, (2, 1, 28, 28)).float()
    for fraction in (0.1, 0.5):
        seen = calls(network, SHAPES["binarynet"], fraction)
        sent = [call.y[1] for call in seen if call.name.endswith("conv")][:2]
        assert sent == [1, 1] if fraction == 0.1 else [4, 4]
    assert network(x, 0.5).shape == (2, 10)


@pytest.mark.parametrize(
    "images", [torch.rand(4, 1, 28, 28), torch.randn(4, 1, 28, 28)], ids=["0..1", "around 0"]
)
def test_images_that_are_scaled_already_are_refused(images: Tensor) -> None:
    shape = Shape(28, 28, 1)
    split = BinaryNet(paper(shape, 10))
    uses: list[Callable[[Tensor], object]] = [
        make("mlp", single("linear")),
        make("binarynet", single("linear")),
        lambda x: split(x, 0, 0),
        split.calibrate,
    ]
    for use in uses:
        with pytest.raises(ValueError, match="networks take pixels as they are"):
            use(images)
        with torch.no_grad():
            use(torch.zeros(4, 1, 28, 28))
            use((images.abs() * 100).clamp(0, 255))
