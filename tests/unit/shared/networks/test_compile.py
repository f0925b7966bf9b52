"""``torch.compile(fullgraph=True)`` takes layers and networks at any fraction.

What is captured is compared, and for one layer what torch makes of its gradients; generating C++
from it is torch's part, and takes a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import nn

from shared.layers import (
    IncompleteBinaryConv2d,
    IncompleteBinaryLinear,
    IncompleteConv2d,
    IncompleteDepthwiseSeparableConv2d,
    IncompleteLinear,
)
from shared.networks import (
    IncompleteNetwork,
    Mlp,
    MobileNet,
    PaperBinarizedNetwork,
    Vgg16,
    single,
)

# torch instantiates an autograd function itself while it captures one.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

captured = partial(torch.compile, backend="eager", fullgraph=True)
differentiated = partial(torch.compile, backend="aot_eager", fullgraph=True)


@pytest.fixture(autouse=True)
def forget_other_graphs() -> Iterator[None]:
    """A method is captured for a few networks only, before torch gives up."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (IncompleteLinear(16, 8), ()),
        (IncompleteBinaryLinear(16, 8), ()),
        (IncompleteConv2d(16, 8, 3, padding=1), (5, 5)),
        (IncompleteConv2d(16, 8, 3, groups=4), (5, 5)),
        (IncompleteBinaryConv2d(16, 8, 3, padding=1), (5, 5)),
        (IncompleteDepthwiseSeparableConv2d(16, 8, 3), (5, 5)),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("dynamic", [None, True])
def test_layers(layer: nn.Module, size: tuple[int, ...], dynamic: bool | None) -> None:
    compiled = captured(layer, dynamic=dynamic)
    for n, m in ((16, 8), (8, 4), (12, 2)):
        x = torch.randn(4, n, *size)
        torch.testing.assert_close(compiled(x, m), layer(x, m))


def test_gradients() -> None:
    layer = IncompleteBinaryConv2d(16, 8, 3, padding=1)
    x = torch.randn(4, 8, 5, 5)
    found = []
    for called in (layer, differentiated(layer)):
        layer.zero_grad()
        called(x, 4).square().sum().backward()
        assert layer.weight.grad is not None
        found.append(layer.weight.grad.clone())
    torch.testing.assert_close(found[0], found[1])
    assert found[0].any()


SCHEME = single("linear")
SMALL: dict[str, tuple[IncompleteNetwork, tuple[int, int, int]]] = {
    "mlp": (Mlp(64, 3, SCHEME, hidden=(16, 16)), (1, 8, 8)),
    "vgg16": (Vgg16(3, 3, SCHEME, groups=((8,), (16,)), features=16), (3, 4, 4)),
    "mobilenet": (MobileNet(3, 3, SCHEME, stem=8, blocks=((16, 1), (16, 2))), (3, 8, 8)),
    "binarynet": (PaperBinarizedNetwork((1, 8, 8), 3, SCHEME, counts=(4, 8, 8)), (1, 8, 8)),
}


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_networks(name: str) -> None:
    network, shape = SMALL[name]
    network.eval()
    compiled = captured(network)
    x = torch.rand(2, *shape) * 255
    torch.testing.assert_close(compiled(x, 0.5), network(x, 0.5))
