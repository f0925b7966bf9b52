"""A user's own chain, and pretrained weights, as incomplete networks."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from shared.layers import IncompleteConv2d, IncompleteLinear, SlimmableBatchNorm
from shared.networks import load_pretrained, wrap


def chain() -> nn.Sequential:
    """Trained a little, so that batch norms have statistics of their own."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(12 * 2 * 2, 10),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(10, 4),
    )
    made(torch.randn(32, 3, 8, 8))
    return made


@pytest.mark.parametrize("profile", ["linear", "all-one", "half-exp"])
@torch.no_grad()
def test_complete_it_computes_what_the_chain_does(profile: str) -> None:
    plain = chain().eval()
    network = wrap(plain, profile, levels=(0.5, 1.0)).eval()
    x = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(network(x), plain(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_at_a_fraction_it_uses_the_leading_channels_alone() -> None:
    network = wrap(chain(), levels=(0.5, 1.0)).eval()
    x = torch.randn(5, 3, 8, 8)
    before = network(x, 0.5)
    assert before.shape == (5, 4)
    convolution = network.get_submodule("4.0")
    assert isinstance(convolution, IncompleteConv2d)
    convolution.weight[6:] = 99  # outputs that are cut off
    convolution.weight[:, 4:] = 99  # inputs that are cut off
    assert torch.equal(network(x, 0.5), before)
    assert not torch.equal(network(x, 1.0), before)


def test_it_trains_at_any_fraction() -> None:
    network = wrap(chain(), levels=(0.5, 1.0)).train()
    for fraction in (0.5, 1.0):
        loss = network(torch.randn(8, 3, 8, 8), fraction).square().mean()
        loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_chain_stays_as_it_is() -> None:
    plain = chain()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    network = wrap(plain).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert plain.training
    assert all(torch.equal(before[name], value) for name, value in plain.state_dict().items())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((nn.Conv2d(4, 4, 3, groups=2),), "groups and padding modes"),
        ((nn.Conv2d(4, 4, 3), nn.LSTM(4, 4)), "LSTM: cannot be wrapped"),
        ((nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, affine=False)), "only affine batch norms"),
        ((nn.ReLU(),), "has no Conv2d and no Linear"),
    ],
)
def test_what_cannot_be_wrapped_is_named(layers: tuple[nn.Module, ...], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        wrap(nn.Sequential(*layers))


def test_levels_need_batch_norms() -> None:
    with pytest.raises(ValueError, match="the chain has none"):
        wrap(nn.Sequential(nn.Linear(4, 4)), levels=(0.5, 1.0))


class PlainResidual(nn.Module):
    """Named as torchvision's ResNet names its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(torch.relu(self.bn1(self.conv1(x))).mean((2, 3)))
        return y


class IncompleteResidual(nn.Module):
    """The same with incomplete layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = IncompleteConv2d(3, 8, 3, padding=1, bias=False, profile="harmonic")
        self.bn1 = SlimmableBatchNorm(8, 2)
        self.fc = IncompleteLinear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(torch.relu(self.bn1(self.conv1(x), 1)).mean((2, 3)))
        return y


@torch.no_grad()
def test_pretrained_weights_of_the_same_names_give_the_same_answers() -> None:
    torch.manual_seed(1)
    plain, network = PlainResidual(), IncompleteResidual()
    plain(torch.randn(16, 3, 8, 8))
    load_pretrained(network, plain.eval().state_dict())
    x = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(network.eval()(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.weight": None}, r"fc\.weight is missing"),
        ({"fc.weight": torch.zeros(5, 8)}, r"fc\.weight is \(5, 8\); \(4, 8\) is needed"),
        ({"layer1.0.conv1.weight": torch.zeros(1)}, "layer1.0.conv1.weight has no place"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: dict[str, Tensor | None], message: str) -> None:
    state: dict[str, Tensor | None] = {**PlainResidual().state_dict(), **change}
    given = OrderedDict((name, value) for name, value in state.items() if value is not None)
    with pytest.raises(ValueError, match=message):
        load_pretrained(IncompleteResidual(), given)
